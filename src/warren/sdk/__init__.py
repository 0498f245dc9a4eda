"""A typed client of the HTTP API and its wire types."""

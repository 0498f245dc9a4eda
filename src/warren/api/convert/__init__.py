"""Domain values to wire types: one module per kind of thing."""

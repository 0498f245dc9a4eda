"""The HTTP API: thin handlers over services."""

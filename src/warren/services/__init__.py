"""Use cases: one module per domain, one method per use case, one transaction each."""

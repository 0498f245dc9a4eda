"""The control plane as a process: its database, its construction, its start and end."""

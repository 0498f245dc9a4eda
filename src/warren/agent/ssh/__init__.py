"""The SSH server of a workspace."""

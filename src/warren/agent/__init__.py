"""What runs in a workspace."""

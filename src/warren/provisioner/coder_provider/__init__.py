"""The coder/coder Terraform provider, served in process."""

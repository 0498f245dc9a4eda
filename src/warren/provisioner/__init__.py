"""Runs Terraform for build jobs; knows nothing of HTTP or SQL."""

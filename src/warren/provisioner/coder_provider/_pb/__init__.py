"""Generated messages of Terraform's plugin protocol; see `proto/generate.sh`."""

"""The figures of the network: `make bench-network`, each against its reference in the same run."""

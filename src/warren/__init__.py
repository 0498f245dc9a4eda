"""Warren: cloud development environments over an end-to-end encrypted network."""

__version__ = "0.1.0"

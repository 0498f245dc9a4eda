"""One script a question; `python -m benchmarks` answers them all."""

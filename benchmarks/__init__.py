"""The same work done by several ways to call over a network, side by side: ``python -m benchmarks``."""

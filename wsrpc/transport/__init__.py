"""Transports: the `Link` contract, and the libraries that carry batches."""

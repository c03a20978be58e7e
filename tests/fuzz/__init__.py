"""Recorded conversations, tampered with a million times: `python -m tests.fuzz`."""

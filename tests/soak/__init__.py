"""Programs that show that sessions survive: `python -m tests.soak` runs them all."""

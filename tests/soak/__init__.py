"""Programs that show that sessions survive, for `make soak`."""

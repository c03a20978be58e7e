"""The bench: how fast a server with the interop service is, measured and drawn."""

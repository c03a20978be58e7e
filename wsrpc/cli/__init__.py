"""The commands: serve, call, ls, describe, schema, demo. They need the extra `cli`."""

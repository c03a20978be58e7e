"""The commands: serve, call, ls, describe, schema, bench, demo. They need the extra `cli`."""

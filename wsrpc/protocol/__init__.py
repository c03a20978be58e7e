"""The rules of protocol.md as pure code: no I/O, no clock, no randomness, no logging."""

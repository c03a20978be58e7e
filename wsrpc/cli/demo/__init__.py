"""`wsrpc demo`: two processes, one socket, and what was measured between them.

`service` is the server process (`wsrpc serve` runs it), `client` the client process, `steps` what
the client tries and checks; `presenter` starts both and shows their reports as `board` draws them.
"""

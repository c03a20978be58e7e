"""`wsrpc demo`: two processes, one socket, and the measurements between them.

`service` is the server process (`wsrpc serve` runs it), and `client` the client process. `steps`
has the client's trials and checks. `presenter` starts both processes and shows their reports, drawn
by `board`.
"""

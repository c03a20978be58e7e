"""The interop service of protocol.md, and a driver that tries any server that offers it.

`python -m wsrpc.interop.server` serves it; `python -m wsrpc.interop.client URL` runs every case.
"""

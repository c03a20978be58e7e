"""Links over WebSocket, by `picows` on asyncio: TCP, TLS or Unix socket."""

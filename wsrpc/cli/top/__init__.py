"""`wsrpc top`: what a server does now, by session and by method."""

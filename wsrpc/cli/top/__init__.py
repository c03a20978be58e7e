"""`wsrpc top`: the present activity of a server, by session and by method."""

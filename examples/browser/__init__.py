"""A chat and a token stream in web pages, over the client that a wsrpc server serves itself."""

"""What carries messages between the nodes of a cluster."""

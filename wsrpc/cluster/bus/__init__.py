"""Buses, which carry messages between the nodes of a cluster."""

"""Roles built on a peer: their machines, sans-I/O. ``nodes.worker`` is the edge that runs them."""

"""Roles built on a peer. Their machines are sans-I/O; ``worker`` is the edge that runs them."""

"""How messages travel: ZeroMQ between processes, plain references within one."""

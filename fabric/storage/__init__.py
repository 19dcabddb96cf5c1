"""Where a peer keeps what it must remember: LMDB in a data directory, or memory."""

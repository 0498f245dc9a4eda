"""Remote calls: yamux, DRPC, generated messages and their conversion."""

"""Every decision, on one thread. Pure."""

"""Many conversations over one model. Knows nothing of sockets or wire formats."""

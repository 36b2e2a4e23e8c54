"""Reports on their way: states in the index, moved by one thread a destination."""

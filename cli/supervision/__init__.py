"""Runs broker, node and worker as child processes, and leaves none behind."""

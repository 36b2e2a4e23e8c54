"""What `python -m benchmarks.receive` compares: receivers, senders, and raw TCP."""

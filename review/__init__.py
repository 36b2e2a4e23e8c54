"""What radiologists and operators see and decide."""

"""What every room of secondread shares; imports nothing else of ours."""

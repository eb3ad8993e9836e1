"""Train students from stored labels."""

"""Aligned batches of inputs, hard targets and soft labels, in an order that any process can repeat."""

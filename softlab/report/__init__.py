"""What models cost, and training runs side by side."""

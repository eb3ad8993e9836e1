"""Train students from stored labels, and measure them."""

"""What is measured of a model, a file for each metric."""

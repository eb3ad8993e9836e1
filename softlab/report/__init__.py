"""Training runs side by side, and pages of samples."""

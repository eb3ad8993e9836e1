"""The mathematics of sparse soft labels: choosing what to keep, coding it, and the losses that learn from it."""

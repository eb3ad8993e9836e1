"""Trainers of other libraries that learn from a store, a file each; needs what the library's extra installs."""

"""Complete runs as objects: filled from a TOML recipe, flags and `--set` assignments, and run with `.run()`."""

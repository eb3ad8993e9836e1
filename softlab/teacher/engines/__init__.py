"""Where the shards of a dump are computed, when that isn't this process: each engine is one file."""

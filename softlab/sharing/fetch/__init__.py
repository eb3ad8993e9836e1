"""Pull a store to a disk: all of it, or only some views, features or samples."""

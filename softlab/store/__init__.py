"""Stores on disk: two formats behind one reader and one writer, a commit protocol, and a cache of decoded rows."""

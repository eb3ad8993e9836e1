"""Folders of objects, wherever they lie: in an object store, on a web server, on a hub, on a disk."""

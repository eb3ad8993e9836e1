"""What a publisher does: push a store under a name and a version, and remove what interrupted pushes left behind."""

"""What the commands that open a store tell about where it may be."""

STORE_HELP = "Folder or URL of the store, or NAME@VERSION below where it is published."

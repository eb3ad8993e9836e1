"""The card of a store: its README.md, made from the manifest, with sections that a person fills in."""

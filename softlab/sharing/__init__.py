"""Sharing stores: published under names and versions, found in a catalogue, signed, pulled in part."""

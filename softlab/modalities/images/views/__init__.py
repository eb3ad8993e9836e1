"""The random part of an image's views: transforms, mixing, and their replay."""

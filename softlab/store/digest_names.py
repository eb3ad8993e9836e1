"""Where the pixel digests of a view lie; apart from what reads them, which is slow to import."""


def digests_name(view: int) -> str:
    """The file of one view."""
    return f"pixel_digests/view-{view:05d}.parquet"

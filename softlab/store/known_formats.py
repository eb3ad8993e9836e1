"""The two store formats by name. Each is loaded on demand: a Parquet store needs no zarr, and the reverse."""

from softlab.store.format import FormatName, StoreFormat


def format_named(name: FormatName) -> StoreFormat:
    """What `storage.format` in a manifest means."""
    if name == "zarr":
        from softlab.store.zarr_format import ZarrFormat

        return ZarrFormat()
    from softlab.store.parquet_format import ParquetFormat

    return ParquetFormat()

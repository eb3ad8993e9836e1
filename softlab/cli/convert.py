"""`softlab convert`: write a store again in the other format."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from softlab.amounts import format_bytes
from softlab.cli.opening import STORE_HELP
from softlab.cli.progress import rows_bar
from softlab.store.convert import convert_store
from softlab.store.place import place_of
from softlab.store.reader import open_store


class Format(StrEnum):
    """A store's format; the values of FormatName, as Typer's older versions take no Literal."""

    zarr = "zarr"
    parquet = "parquet"


def convert(
    store: Annotated[str, typer.Argument(help=STORE_HELP, show_default=False)],
    out: Annotated[Path, typer.Argument(help="Folder of the new store.", show_default=False)],
    format: Annotated[Format, typer.Option(help="Format of the new store.", show_default=False)],
) -> None:
    """Write a store again in another format, its rows unchanged to the bit; the new one names the old as its parent."""
    with rows_bar(unit="shards") as bar:
        manifest = convert_store(
            open_store(store), out, format=format.value, on_shard=lambda done, total: bar(done, "", total)
        )
    total = sum(file.bytes for file in manifest.files)
    print(f"{place_of(out)}: {manifest.num_rows:,} rows as {format.value}, {format_bytes(total)}")

"""`softlab verify`: check every file of a store against its manifest."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from softlab.cli.progress import rows_bar
from softlab.cli.tables import format_bytes
from softlab.store.verify import verify_store


def verify(
    store: Annotated[Path, typer.Argument(help="Folder of the store.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Hash every file of a store again; exit code 1 and a list if any is damaged, missing or foreign."""
    with rows_bar(unit="files") as bar:
        report = verify_store(store, on_file=lambda done, total: bar(done, "", total))
    if as_json:
        print(json.dumps(asdict(report) | {"intact": report.is_intact}, indent=1))
    else:
        for state in ["damaged", "missing", "foreign"]:
            for path in getattr(report, state):
                print(f"{state}: {path}")
        state = "intact" if report.is_intact else "NOT intact"
        print(f"{store}: {state}, {report.num_files:,} files, {format_bytes(report.num_bytes)}, digest {report.digest}")
        if report.is_adding_views:
            print("views are being added; the same `softlab dump-teacher --views +N` command goes on with them")
    if not report.is_intact:
        raise typer.Exit(1)

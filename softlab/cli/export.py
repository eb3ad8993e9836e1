"""`softlab export`: write a store's targets as a plain table."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from softlab.amounts import format_count
from softlab.cli.opening import STORE_HELP
from softlab.cli.progress import rows_bar
from softlab.store.export import export_targets
from softlab.store.reader import open_store


class Targets(StrEnum):
    """What of a store; the values of its Literal, as Typer's older versions take none."""

    probabilities = "probabilities"
    top_k = "top_k"
    argmax = "argmax"
    values = "values"


def export(
    store: Annotated[str, typer.Argument(help=STORE_HELP, show_default=False)],
    out: Annotated[Path, typer.Argument(help="File to write: .parquet, .csv or .npz.", show_default=False)],
    targets: Annotated[Targets, typer.Option(help="What of each sample.")] = Targets.probabilities,
    temperature: Annotated[float, typer.Option(help="Of the probabilities.")] = 1.0,
    view: Annotated[int, typer.Option(help="Which view.")] = 0,
    output: Annotated[
        str | None, typer.Option(help="Which output, where the store holds several.", show_default=False)
    ] = None,
) -> None:
    """Write what a teacher said of each sample as a table with keys, for students that torch doesn't train.

    Classes that the store doesn't keep share the tail equally.
    """
    opened = open_store(store)
    if output is not None and targets is not Targets.values:
        opened = opened.with_labels(output)
    with rows_bar() as bar:
        rows = export_targets(
            opened,
            out,
            targets=targets.value,
            temperature=temperature,
            view=view,
            feature=output if targets is Targets.values else None,
            on_rows=lambda done, total: bar(done, "", total),
        )
    print(f"{out}: {targets.value} of {format_count(rows, 'sample')}")

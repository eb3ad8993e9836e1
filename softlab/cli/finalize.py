"""`softlab finalize`: finish a store whose shards were written by any number of processes."""

from typing import Annotated

import typer

from softlab.cli.dumping import print_finished
from softlab.teacher.dump import finished_summary
from softlab.teacher.job import finalize as finalize_dump


def finalize(
    store: Annotated[str, typer.Argument(help="Folder that a dump was written to.", show_default=False)],
) -> None:
    """Write the manifest of a store once all of its shards are there; every file is read back first.

    With shards missing it names them and ends with exit code 1, and nothing is lost. Twice does no harm.
    """
    finalize_dump(store)
    print_finished(finished_summary(store))

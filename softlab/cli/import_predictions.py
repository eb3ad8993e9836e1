"""`softlab import`: make a store of what a model said elsewhere."""

import typer

from softlab.cli.dumping import print_summary
from softlab.cli.flags import argument_first, recipe_command
from softlab.cli.progress import run_bar, scan_bar
from softlab.recipes.import_predictions import ImportRecipe
from softlab.teacher.dump_progress import DumpProgress

PREDICTIONS_ARGUMENT = typer.Argument(
    metavar="PREDICTIONS",
    show_default=False,
    help="Parquet, CSV, npz or JSONL file with one row a sample; of Parquet also a folder.",
)


@argument_first("predictions__path", argument=PREDICTIONS_ARGUMENT)
@recipe_command(ImportRecipe)
def import_predictions(recipe: ImportRecipe) -> None:
    """Make a store of predictions: of a model that runs elsewhere, a service, a file of last year, votes of people.

    Rows are matched with samples by their keys. An interrupted import goes on when the same command is run again.
    """
    with run_bar() as bar:

        def on_progress(progress: DumpProgress) -> None:
            bar(progress.done, progress.note, progress.total, unit=progress.unit)

        summary = recipe.run(on_scan=scan_bar(bar), on_progress=on_progress)
    print_summary(summary)

"""`softlab bench`: measure a store, and a student's step on its labels, on this machine."""

from collections.abc import Sequence

import msgspec
import typer

from softlab.bench.machine import CAN_FORGET
from softlab.bench.reading import ReadRate
from softlab.bench.store_figures import StoreFigures
from softlab.bench.training import StepRate
from softlab.cli.flags import argument_first, recipe_command
from softlab.cli.progress import run_bar, scan_bar
from softlab.cli.say import say
from softlab.cli.tables import print_facts, print_table
from softlab.recipes.bench import BenchRecipe

STORE_ARGUMENT = typer.Argument(help="Folder of the store.", show_default=False)


@argument_first("store", argument=STORE_ARGUMENT)
@recipe_command(BenchRecipe)
def bench(recipe: BenchRecipe) -> None:
    """Measure how fast a store is read on this machine, and with --source what its labels cost a student's step.

    Reading is compared with np.take on a memory-mapped file of the same rows, steps with those on plain hard labels.
    The students themselves are not trained, and reading fills a row cache of its own.
    """
    with run_bar() as bar:
        found = recipe.run(on_scan=scan_bar(bar), on_turn=lambda way, done, total: bar(done, way, total, unit="turns"))
    if recipe.json:
        print(msgspec.json.format(msgspec.json.encode(found, enc_hook=float)).decode())
        return
    print_facts(_facts(found.store) | {"machine": found.machine})
    _print_reading(found.reading)
    _print_steps(found.training)


def _facts(store: StoreFigures) -> dict[str, str]:
    groups = ", ".join(f"{name} {size:,.1f}" for name, size in store.bytes_per_row.items())
    return {
        "rows": f"{store.num_rows:,} in {store.num_shards:,} shards",
        "bytes per row": groups,
        "opening": f"{store.open_seconds:.3g} s",
    }


def _print_reading(reads: Sequence[ReadRate]) -> None:
    for group in dict.fromkeys(read.group for read in reads):
        rows = [
            [
                f"{read.order}, {read.place}",
                read.form,
                f"{read.rows_per_second:,.0f}",
                *_units(read),
                f"{read.relative:.3f}",
            ]
            for read in reads
            if read.group == group
        ]
        units = ["units/s"] if len(rows[0]) > 4 else []
        print()
        print_table(["batches of 256 rows", "as", "rows/s", *units, "relative"], rows, title=f"Reading {group}")
    say("relative: to np.take on a memory-mapped file of the same packed rows (plain file).")
    if not any(read.place == "row cache" for read in reads):
        say("row cache: not measured, for a decoded store is larger than --cache-max-bytes.")
    disk = "their files dropped from memory first" if CAN_FORGET else "this system can't drop them from memory first"
    say(f"first touch: decoded into an empty row cache, {disk}.")


def _print_steps(steps: Sequence[StepRate]) -> None:
    for student in dict.fromkeys(step.student for step in steps):
        rows = [
            [_labels(step), f"{step.samples_per_second:,.0f}", f"{step.relative:.3f}"]
            for step in steps
            if step.student == student
        ]
        print()
        size = next(step.batch_size for step in steps if step.student == student)
        print_table(["labels", "samples/s", "relative"], rows, title=f"Steps of {student}, batches of {size:,}")
    if steps:
        say("relative: to plain hard labels; the same batches of decoded samples in memory.")


def _units(read: ReadRate) -> list[str]:
    """None without units."""
    return [] if read.units_per_second is None else [f"{read.units_per_second:,.0f}"]


def _labels(step: StepRate) -> str:
    features = ", ".join(f"{name}={layer}" for name, layer in step.features.items())
    return step.labels if not features else f"stored, and {features}"

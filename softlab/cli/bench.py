"""`softlab bench`: measure a store, and a student's step on its labels, on this machine."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import typer

from softlab.bench.machine import describe_machine
from softlab.bench.page_cache import CAN_FORGET
from softlab.bench.plain_rows import MAX_PLAIN_BYTES
from softlab.bench.reading import ROUNDS, ReadRate, measure_reading
from softlab.bench.store_figures import StoreFigures, measure_store
from softlab.bench.training import TURN_S, StepRate, measure_training
from softlab.cli.flags import argument_first, recipe_command
from softlab.cli.opening import open_with_bar
from softlab.cli.progress import rows_bar
from softlab.cli.tables import print_facts, print_table
from softlab.cli.train_student import build_students
from softlab.errors import InvalidOption
from softlab.modalities.images.inputs import ImageInput
from softlab.models.build import ModelOptions
from softlab.sources.options import SourceOptions
from softlab.store.cache import CacheOptions
from softlab.store.reader import open_store
from softlab.student.options import TrainOptions

DEFAULT_STUDENT = {"grey_cnn": ModelOptions(model="softlab:grey_cnn")}
QUICK_ROUNDS, QUICK_PLAIN_BYTES, QUICK_TURN_S = 1, 64 << 20, 0.2

STORE_ARGUMENT = typer.Argument(help="Folder of the store.", show_default=False)


@dataclass(frozen=True, kw_only=True)
class BenchRecipe:
    """What is measured."""

    store: str
    """Folder of the store."""

    quick: bool = False
    """One round, and less of a large store: a few seconds, and rougher figures."""

    rounds: int | None = None
    """Turns of each way, of which the median counts; default: 5."""

    json: bool = False
    """Print JSON."""

    student: dict[str, ModelOptions] = field(default_factory=dict)
    """A student whose step is measured; default: softlab:grey_cnn."""

    source: SourceOptions | None = None
    input: ImageInput = field(default_factory=ImageInput)
    train: TrainOptions = field(default_factory=TrainOptions)
    cache: CacheOptions = field(default_factory=CacheOptions)

    def __post_init__(self) -> None:
        """Refuses what would otherwise be found after the store was read."""
        if self.student and self.source is None:
            raise InvalidOption("--student without a source to train it on. Give --source, or leave --student out.")
        if self.num_rounds < 1:
            raise InvalidOption(f"rounds = {self.rounds}: expected 1 or more. Change --rounds.")

    @property
    def num_rounds(self) -> int:
        if self.rounds is not None:
            return self.rounds
        return QUICK_ROUNDS if self.quick else ROUNDS


@argument_first("store", argument=STORE_ARGUMENT)
@recipe_command(BenchRecipe, main_section="train")
def bench(recipe: BenchRecipe) -> None:
    """Measure how fast a store is read on this machine, and with --source what its labels cost a student's step.

    Reading is compared with np.take on a memory-mapped file of the same rows, steps with those on plain hard labels.
    Options of training are those of `train-student`; the ones that no step depends on have no effect. The students
    themselves are not trained, and reading fills a row cache of its own.
    """
    store = measure_store(recipe.store)
    steps = [] if recipe.source is None else _measure_steps(recipe, recipe.source)
    reads = _measure_reading(recipe)
    if recipe.json:
        figures = {"machine": describe_machine(), "store": store, "reading": reads, "training": steps}
        print(msgspec.json.format(msgspec.json.encode(figures)).decode())
        return
    print_facts(_facts(store) | {"machine": describe_machine()})
    _print_reading(reads)
    _print_steps(steps)


def _measure_reading(recipe: BenchRecipe) -> list[ReadRate]:
    with rows_bar(unit="turns") as bar:
        return measure_reading(
            recipe.store,
            rounds=recipe.num_rounds,
            cache=recipe.cache,
            max_plain_bytes=QUICK_PLAIN_BYTES if recipe.quick else MAX_PLAIN_BYTES,
            on_turn=lambda way, done, total: bar(done, way, total),
        )


def _measure_steps(recipe: BenchRecipe, options: SourceOptions) -> list[StepRate]:
    students = recipe.student or DEFAULT_STUDENT
    modules = build_students(students, seeds=dict.fromkeys(students, recipe.train.seed))
    store = open_store(recipe.store, cache=recipe.cache)
    source = open_with_bar(options)
    with rows_bar(unit="turns") as bar:
        return measure_training(
            modules,
            source,
            store,
            recipe.train,
            input=recipe.input,
            rounds=recipe.num_rounds,
            turn_s=QUICK_TURN_S if recipe.quick else TURN_S,
            on_turn=lambda way, done, total: bar(done, way, total),
        )


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
            [f"{read.order}, {read.place}", read.form, f"{read.rows_per_second:,.0f}", f"{read.relative:.3f}"]
            for read in reads
            if read.group == group
        ]
        print()
        print_table(["batches of 256 rows", "as", "rows/s", "relative"], rows, title=f"Reading {group}")
    print("relative: to np.take on a memory-mapped file of the same packed rows (plain file).")
    if not any(read.place == "row cache" for read in reads):
        print("row cache: not measured, for a decoded store is larger than --cache-max-bytes.")
    disk = "their files dropped from memory first" if CAN_FORGET else "this system can't drop them from memory first"
    print(f"first touch: decoded into an empty row cache, {disk}.")


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
        print("relative: to plain hard labels; the same batches of decoded images in memory.")


def _labels(step: StepRate) -> str:
    features = ", ".join(f"{name}={layer}" for name, layer in step.features.items())
    return step.labels if not features else f"stored, and {features}"

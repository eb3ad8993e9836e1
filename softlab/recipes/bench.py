"""A complete measurement of a store, and of a student's step on its labels."""

from dataclasses import dataclass, field
from typing import ClassVar

from softlab.bench.machine import describe_machine
from softlab.bench.reading import MAX_PLAIN_BYTES, ReadRate, measure_reading
from softlab.bench.store_figures import StoreFigures, measure_store
from softlab.bench.timing import ROUNDS, OnTurn
from softlab.bench.training import TURN_S, StepRate, measure_training
from softlab.errors import InvalidOption
from softlab.modalities.images.inputs import ImageInput
from softlab.modalities.opening import open_source
from softlab.models.build import ModelOptions
from softlab.recipes.opening import OnScan
from softlab.recipes.students import build_students
from softlab.sources.options import SourceOptions
from softlab.store.cache import CacheOptions
from softlab.store.reader import open_store
from softlab.student.options import TrainOptions

DEFAULT_STUDENT = {"grey_cnn": ModelOptions(model="softlab:grey_cnn")}
QUICK_ROUNDS, QUICK_PLAIN_BYTES, QUICK_TURN_S = 1, 64 << 20, 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchFigures:
    """What was measured."""

    machine: str
    store: StoreFigures
    reading: list[ReadRate]
    training: list[StepRate]
    """Empty without a source."""


@dataclass(frozen=True, kw_only=True)
class BenchRecipe:
    """What is measured."""

    main_section: ClassVar[str] = "train"

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

    def run(self, *, on_scan: OnScan | None = None, on_turn: OnTurn | None = None) -> BenchFigures:
        """How fast the store is read here, and with a source what its labels cost a student's step.

        The students themselves are not trained. Raises as `measure_reading` and `measure_training`.
        """
        store = measure_store(self.store)
        steps = [] if self.source is None else self._measure_steps(self.source, on_scan, on_turn)
        reads = measure_reading(
            self.store,
            rounds=self.num_rounds,
            cache=self.cache,
            max_plain_bytes=QUICK_PLAIN_BYTES if self.quick else MAX_PLAIN_BYTES,
            on_turn=on_turn,
        )
        return BenchFigures(machine=describe_machine(), store=store, reading=reads, training=steps)

    def _measure_steps(self, options: SourceOptions, on_scan: OnScan | None, on_turn: OnTurn | None) -> list[StepRate]:
        students = self.student or DEFAULT_STUDENT
        modules = build_students(students, seeds=dict.fromkeys(students, self.train.seed))
        store = open_store(self.store, cache=self.cache)
        source = open_source(options, modality=self.input.modality, on_scan=on_scan)
        return measure_training(
            modules,
            source,
            store,
            self.train,
            input=self.input,
            rounds=self.num_rounds,
            turn_s=QUICK_TURN_S if self.quick else TURN_S,
            on_turn=on_turn,
        )

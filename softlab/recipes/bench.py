"""A complete measurement of a store, and of a student's step on its labels."""

from dataclasses import dataclass, field
from typing import ClassVar

from softlab.bench.machine import describe_machine
from softlab.bench.reading import MAX_PLAIN_BYTES, ReadRate, measure_reading
from softlab.bench.store_figures import StoreFigures, measure_store
from softlab.bench.timing import ROUNDS, OnTurn
from softlab.bench.training import TURN_S, StepRate, measure_training
from softlab.errors import InvalidOption
from softlab.labels.losses import DecisionLoss, KlLoss
from softlab.modalities.images.inputs import ImageInput
from softlab.models.build import ModelOptions
from softlab.models.device import DeviceOptions
from softlab.recipes.opening import OnScan, open_samples
from softlab.recipes.students import build_students, input_before_model
from softlab.sources.options import SourceOptions
from softlab.store.cache import CacheOptions
from softlab.store.reader import open_store
from softlab.student.feature_losses import FeatureLoss
from softlab.student.optimizer import OptimizerOptions
from softlab.student.options import LearnOptions, RunOptions, TeachersOptions, TrainOptions

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

    flags: ClassVar[dict[str, str]] = {
        "store": "--store",
        "quick": "--quick",
        "rounds": "--rounds",
        "json": "--json",
        "batch_size": "--batch-size",
        "student": "--student",
        "source.path": "--source",
        "source.limit": "--limit",
        "input.size": "--size",
        "input.channels": "--channels",
        "input.mean": "--mean",
        "input.std": "--std",
        "feature": "--feature",
        "loss.name": "--loss",
        "device.name": "--device",
        "cache.dir": "--cache-dir",
        "cache.max_bytes": "--cache-max-bytes",
    }
    """Of the command line, by key; all else is set with `--set`."""

    store: str
    """Folder of the store."""

    quick: bool = False
    """One round, and less of a large store: a few seconds, and rougher figures."""

    rounds: int | None = None
    """Turns of each way, of which the median counts; default: 5."""

    json: bool = False
    """Print JSON."""

    batch_size: int = 128
    """Samples of one step."""

    student: dict[str, ModelOptions] = field(default_factory=dict)
    """A student whose step is measured; default: softlab:grey_cnn."""

    source: SourceOptions | None = None
    input: ImageInput = field(default_factory=ImageInput)
    device: DeviceOptions = field(default_factory=DeviceOptions)
    teachers: TeachersOptions = field(default_factory=TeachersOptions)
    loss: DecisionLoss = field(default_factory=KlLoss)
    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)

    feature: dict[str, FeatureLoss] = field(default_factory=dict)
    """A stored feature to learn, and the student's layer that learns it; default: the first one, by a layer like it."""
    cache: CacheOptions = field(default_factory=CacheOptions)

    def __post_init__(self) -> None:
        """Refuses what would otherwise be found after the store was read."""
        if self.student and self.source is None:
            raise InvalidOption(
                "`student` without a source to train it on. Give `source.path`, or leave `student` out."
            )
        if self.num_rounds < 1:
            raise InvalidOption(f"rounds = {self.rounds}: expected 1 or more. Change `rounds`.")

    @property
    def options(self) -> TrainOptions:
        """Of the steps that are measured."""
        learn = LearnOptions(teachers=self.teachers, loss=self.loss, optimizer=self.optimizer, feature=self.feature)
        return TrainOptions(run=RunOptions(batch_size=self.batch_size), device=self.device, learn=learn)

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
        store = open_store(self.store, cache=self.cache)
        source = open_samples(
            options,
            modality=self.input.modality,
            inputs=(self.input,),
            seen=store.manifest.seen,
            on_scan=on_scan,
        )
        input = input_before_model(next(iter(students.values())), self.input, source)
        modules = build_students(students, seeds=dict.fromkeys(students, 0), inputs=dict.fromkeys(students, input))
        return measure_training(
            modules,
            source,
            store,
            self.options,
            input=input,
            rounds=self.num_rounds,
            turn_s=QUICK_TURN_S if self.quick else TURN_S,
            on_turn=on_turn,
        )

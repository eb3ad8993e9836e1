"""A small command's options with every type of field that a recipe may have, for the tests of recipes and flags."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from softlab.errors import InvalidOption
from softlab.recipes.options import ELSEWHERE, KEY, OVER_RUN


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelOptions:
    model: str
    """Where the model
    comes from."""

    arguments: dict[str, object] = field(default_factory=dict)
    """Its keyword arguments."""

    weights: Path | None = None
    """Its [trained] weights.

    Where there are none, random
    ones."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceOptions:
    path: Path
    """Folder of the images."""

    shuffle_every_epoch: bool = True
    """Whether the order is random."""

    limit: int | None = None
    """Only the first samples."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InputOptions:
    channels: Literal[1, 3] | None = None
    """Of an image."""

    files: tuple[Path, ...] = ()
    """Read beside it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlainLoss:
    name: ClassVar[str] = "plain"

    temperature: float = 1.0
    """Of both sides."""

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise InvalidOption(f"temperature = {self.temperature}: expected more than 0. Change `loss.temperature`.")


@dataclass(frozen=True, kw_only=True, slots=True)
class WeighedLoss:
    name: ClassVar[str] = "weighed"

    temperature: float = 4.0
    """Of both sides."""

    beta: float = 8.0
    """Of the other classes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HardLoss:
    name: ClassVar[str] = "hard"


Loss = PlainLoss | WeighedLoss | HardLoss


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOptions:
    epochs: int = 30
    """Passes over the samples."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DumpOptions:
    views: int = 1
    """Views of a sample."""

    temperatures: tuple[float, ...] = (1.0, 2.0, 4.0)
    """Where the tail is stored."""

    selection: Literal["topk", "topp", "sampled", "hybrid"] = "topk"
    """How classes are chosen."""

    fields: tuple[Literal["logits", "features"], ...] = ()
    """What is stored."""

    taps: dict[str, str] = field(default_factory=dict)
    """Layer of a feature."""

    run: RunOptions = field(default_factory=RunOptions, metadata={ELSEWHERE: True})
    """In a recipe a section of its own."""

    def __post_init__(self) -> None:
        if self.views < 1:
            raise InvalidOption(f"dump.views = {self.views}: expected 1 or more. Change `dump.views`.")


@dataclass(frozen=True, kw_only=True, slots=True)
class StudentOptions(ModelOptions):
    seed: int | None = None
    """Of its weights."""

    input: InputOptions | None = field(default=None, metadata={OVER_RUN: True})
    """Where that is not as [input] says."""

    loss: Loss | None = field(default=None, metadata={OVER_RUN: True})
    """Where that is not as [loss] says."""

    taps: dict[str, str] | None = field(default=None, metadata={OVER_RUN: True})
    """In place of all of dump.taps."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExampleRecipe:
    flags: ClassVar[dict[str, str]] = {
        "out": "--out",
        "teacher.model": "--teacher",
        "teacher.arguments": "--arguments",
        "teacher.weights": "--weights",
        "source.path": "--source",
        "source.shuffle_every_epoch": "--shuffle",
        "source.limit": "--limit",
        "valid.path": "--valid",
        "input.channels": "--channels",
        "input.files": "--files",
        "student": "--student",
        "loss.name": "--loss",
        "dump.views": "--views",
        "dump.temperatures": "--temperatures",
        "dump.selection": "--selection",
        "dump.fields": "--fields",
        "dump.taps": "--taps",
    }

    out: Path
    """Folder to write."""

    teacher: ModelOptions
    source: SourceOptions
    valid: SourceOptions | None = None
    input: InputOptions = InputOptions(channels=3)
    student: dict[str, StudentOptions] = field(default_factory=dict)
    """Models to train."""

    run_options: RunOptions = field(default_factory=RunOptions, metadata={KEY: "run"})
    loss: Loss = field(default_factory=PlainLoss)
    dump: DumpOptions = field(default_factory=DumpOptions)

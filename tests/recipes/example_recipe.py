"""A small command's options with every type of field that a recipe may have, for the tests of recipes and flags."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from softlab.errors import InvalidOption


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelOptions:
    model: str
    """Where the model
    comes from."""

    arguments: dict[str, object] = field(default_factory=dict)
    """Its keyword arguments."""

    weights: Path | None = None
    """Its [trained] weights."""


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

    def __post_init__(self) -> None:
        if self.views < 1:
            raise InvalidOption(f"--views {self.views}: no view to store. Give at least 1.")


@dataclass(frozen=True, kw_only=True, slots=True)
class ExampleRecipe:
    out: Path
    """Folder to write."""

    teacher: ModelOptions
    source: SourceOptions
    valid: SourceOptions | None = None
    input: InputOptions = InputOptions(channels=3)
    student: dict[str, ModelOptions] = field(default_factory=dict)
    """Models to train."""

    dump: DumpOptions = DumpOptions()

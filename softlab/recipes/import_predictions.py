"""A complete import of predictions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import ClassVar, Self

from softlab.errors import InvalidOption
from softlab.modalities.modality import DEFAULT_MODALITY
from softlab.modalities.opening import open_source
from softlab.models.class_names import read_class_names
from softlab.predictions.options import PredictionOptions
from softlab.recipes.building import load_recipe
from softlab.recipes.opening import OnScan
from softlab.sources.options import SourceOptions
from softlab.teacher.dump import DumpSummary
from softlab.teacher.dump_progress import DumpProgress
from softlab.teacher.import_predictions import import_predictions
from softlab.teacher.options import DumpOptions


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictionsFile(PredictionOptions):
    """Where predictions are, and how they are read."""

    path: str
    """A Parquet, CSV, npz or JSONL file.

    Of Parquet also a folder or a glob of them."""

    @property
    def options(self) -> PredictionOptions:
        """The same without the place."""
        return PredictionOptions(**{each.name: getattr(self, each.name) for each in fields(PredictionOptions)})


@dataclass(frozen=True, kw_only=True)
class ImportRecipe:
    """A complete import."""

    flags: ClassVar[dict[str, str]] = {
        "predictions.path": "--predictions",
        "out": "--out",
        "source.path": "--source",
        "source.limit": "--limit",
        "predictions.kind": "--kind",
        "predictions.column": "--column",
        "predictions.key_column": "--key-column",
        "predictions.num_classes": "--num-classes",
        "predictions.by_position": "--by-position",
        "class_names": "--class-names",
        "dump.k": "--k",
        "dump.temperature": "--temperature",
        "dump.head": "--head",
        "dump.output": "--output",
        "dump.coding": "--coding",
        "dump.format": "--format",
        "dump.shard_rows": "--shard-rows",
    }
    """Of the command line, by key; all else is set in a recipe or with `--set`."""

    out: Path
    """Folder of the store to write."""

    class_names: Path | None = None
    """A text file with the names of the classes, one a line in the order of the predictions, where they don't tell
    them."""

    modality: str = DEFAULT_MODALITY
    """What the fields of the samples mean to students."""

    predictions: PredictionsFile
    source: SourceOptions
    dump: DumpOptions = field(default_factory=DumpOptions)

    def __post_init__(self) -> None:
        if not self.predictions.path:
            raise InvalidOption("`predictions.path` is empty. Name the file of predictions.")

    @classmethod
    def load(cls, path: str | Path, *, set: Sequence[str] = ()) -> Self:
        """The recipe of a TOML file, overridden by `KEY=VALUE` texts such as `dump.k=8`. Raises InvalidOption."""
        return load_recipe(cls, path=Path(path), assignments=set)

    def run(
        self, *, on_scan: OnScan | None = None, on_progress: Callable[[DumpProgress], None] | None = None
    ) -> DumpSummary:
        """The finished store's summary. An interrupted import goes on when this is called again. Raises as
        `import_predictions`."""
        return import_predictions(
            self.predictions.path,
            open_source(self.source, modality=self.modality, on_scan=on_scan),
            self.out,
            self.predictions.options,
            dump=self.dump,
            class_names=None if self.class_names is None else read_class_names(self.class_names),
            modality=self.modality,
            on_progress=on_progress,
        )

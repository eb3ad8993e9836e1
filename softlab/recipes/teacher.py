"""A complete training run of a teacher, on hard targets."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self

from softlab.modalities.images.inputs import ImageInput
from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.modalities.opening import open_source
from softlab.models.device import DeviceOptions
from softlab.recipes.building import load_recipe
from softlab.recipes.opening import OnScan, open_validation
from softlab.recipes.options import KEY
from softlab.recipes.published_input import input_of
from softlab.recipes.students import TeacherModel, build_students
from softlab.sources.options import SourceOptions
from softlab.student.loop import OnProgress
from softlab.student.optimizer import OptimizerOptions
from softlab.student.options import LearnOptions, LogOptions, RunOptions, TargetOptions, TrainOptions
from softlab.student.pruning import PruneOptions
from softlab.student.run_folder import StudentResult
from softlab.student.train import train_students


@dataclass(frozen=True, kw_only=True)
class TeacherRecipe:
    """A complete training run of a teacher."""

    flags: ClassVar[dict[str, str]] = {
        "out": "--out",
        "teacher.model": "--teacher",
        "teacher.weights": "--weights",
        "source.path": "--source",
        "source.limit": "--limit",
        "valid.path": "--valid",
        "input.size": "--size",
        "input.channels": "--channels",
        "input.mean": "--mean",
        "input.std": "--std",
        "augment.transforms": "--augment",
        "run.epochs": "--epochs",
        "run.batch_size": "--batch-size",
        "run.max_samples": "--max-samples",
        "run.seed": "--seed",
        "targets.label_smoothing": "--label-smoothing",
        "optimizer.learning_rate": "--learning-rate",
        "device.name": "--device",
        "device.autocast": "--autocast",
        "device.workers": "--workers",
        "log.resume": "--resume",
    }
    """Of the command line, by key; all else is set in a recipe or with `--set`."""

    out: Path
    """Folder for weights, metrics, checkpoints.

    A run that was killed goes on from there."""

    teacher: TeacherModel
    source: SourceOptions
    valid: SourceOptions | None = None
    input: ImageInput = field(default_factory=ImageInput)
    augment: ViewRecipe | None = None
    run_options: RunOptions = field(default_factory=RunOptions, metadata={KEY: "run"})
    device: DeviceOptions = field(default_factory=DeviceOptions)
    log: LogOptions = field(default_factory=LogOptions)
    targets: TargetOptions = field(default_factory=TargetOptions)
    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)
    prune: PruneOptions | None = None

    @classmethod
    def load(cls, path: str | Path, *, set: Sequence[str] = ()) -> Self:
        """The recipe of a TOML file, overridden by `KEY=VALUE` texts such as `run.epochs=5`. Raises InvalidOption."""
        return load_recipe(cls, path=Path(path), assignments=set)

    def run(self, *, on_scan: OnScan | None = None, on_progress: OnProgress | None = None) -> list[StudentResult]:
        """The trained teacher, the only one in the list. Raises as `train_students`."""
        used = self.teacher.input or input_of(self.teacher, self.input, key="teacher.input")
        valid = open_validation(self.valid, inputs=(used,), on_scan=on_scan)
        source = open_source(self.source, modality=used.modality, inputs=(used,), on_scan=on_scan)
        learn = LearnOptions(targets=self.targets, optimizer=self.optimizer, prune=self.prune)
        return train_students(
            build_students({"teacher": self.teacher}, seeds={"teacher": self.run_options.seed}),
            source,
            [],
            TrainOptions(run=self.run_options, device=self.device, log=self.log, learn=learn),
            input=used,
            augment=self.augment,
            valid=valid,
            out=self.out,
            on_progress=on_progress,
        )

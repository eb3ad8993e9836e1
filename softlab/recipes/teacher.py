"""A complete training run of a teacher, on hard targets."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from torch import nn

from softlab.errors import StoreMismatch
from softlab.evaluation.one_model import open_inputs, predict_classes
from softlab.loading.label_check import classes_of_labels, label_note, left_aside_note, warn_of_labels
from softlab.loading.options import CheckOptions
from softlab.modalities.images.inputs import ImageInput
from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.modalities.modality import tells_targets
from softlab.modalities.opening import open_source
from softlab.models.device import DeviceOptions
from softlab.ranks import is_first_rank
from softlab.recipes.building import load_recipe
from softlab.recipes.opening import OnScan, open_validation
from softlab.recipes.options import KEY
from softlab.recipes.published_input import input_of
from softlab.recipes.students import TeacherModel, build_students, input_before_model
from softlab.recipes.weights_input import about_weights, class_names_of
from softlab.sources.known_classes import with_known_classes
from softlab.sources.options import SourceOptions
from softlab.sources.source import Source, hard_targets
from softlab.sources.subset import spread_over
from softlab.student.loop import OnProgress
from softlab.student.optimizer import OptimizerOptions
from softlab.student.options import LearnOptions, LogOptions, RunOptions, TargetOptions, TrainOptions
from softlab.student.pruning import PruneOptions
from softlab.student.robust_options import RobustOptions
from softlab.student.run_folder import RUN, StudentResult
from softlab.student.train import train_students

LOOKED_AT = 256
"""Samples on which a teacher that has weights is compared with the hard targets, before it is trained on."""


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
    robust: RobustOptions | None = None

    @classmethod
    def load(cls, path: str | Path, *, set: Sequence[str] = ()) -> Self:
        """The recipe of a TOML file, overridden by `KEY=VALUE` texts such as `run.epochs=5`. Raises InvalidOption."""
        return load_recipe(cls, path=Path(path), assignments=set)

    def run(self, *, on_scan: OnScan | None = None, on_progress: OnProgress | None = None) -> list[StudentResult]:
        """The trained teacher, the only one in the list. Raises as `train_students`."""
        used = self.teacher.input or input_of(self.teacher, self.input, key="teacher.input")
        source = open_source(self.source, modality=used.modality, inputs=(used,), on_scan=on_scan)
        used = input_before_model(self.teacher, used, source)
        valid = open_validation(self.valid, inputs=(used,), on_scan=on_scan)
        seeds = {"teacher": self.run_options.seed}
        students = build_students({"teacher": self.teacher}, seeds=seeds, inputs={"teacher": used})
        source = self._as_the_weights_count(source, students["teacher"], used)
        learn = LearnOptions(targets=self.targets, optimizer=self.optimizer, prune=self.prune, robust=self.robust)
        return train_students(
            students,
            source,
            [],
            TrainOptions(run=self.run_options, device=self.device, log=self.log, learn=learn),
            input=used,
            augment=self.augment,
            valid=valid,
            out=self.out,
            on_progress=on_progress,
        )

    def _as_the_weights_count(self, source: Source, module: nn.Module, input: ImageInput) -> Source:
        """The source with its hard targets as the model counts classes, where it has weights of a whole classifier.
        Raises StoreMismatch for other classes; warns with OddLabels where classes are aligned by name, and where some
        predictions contradict the targets."""
        names = class_names_of(self.teacher, about_weights(self.teacher))
        is_untold = (self.teacher.weights is None and names is None) or self.teacher.weights_except
        if is_untold or tells_targets(input):
            return source
        source = with_known_classes(source, names, whose="the teacher's weights")
        if (self.out / RUN).exists() or not is_first_rank():
            return source
        some = spread_over(source, LOOKED_AT)
        loader = open_inputs(some, input=input, device=self.device, check=CheckOptions())
        predicted_N, num_classes = predict_classes(loader, module, self.device)
        some_N = np.arange(len(some))
        labels = classes_of_labels(some, some_N, predicted_N, num_classes=num_classes)
        if labels == "other" or left_aside_note(some, num_classes=num_classes):
            raise StoreMismatch(_of_other_classes(source, num_classes))
        warn_of_labels(label_note(some, some_N, predicted_N, num_classes=num_classes))
        return source


def _of_other_classes(source: Source, num_classes: int) -> str:
    targets_N, names = hard_targets(source), source.class_names
    numbers = "" if targets_N is None else f"labels up to {int(targets_N.max())}"
    found = numbers if names is None else f"{len(names):,} classes"
    return (
        f"{source.name}: labels of other classes ({found}) than the {num_classes:,} of the teacher's weights, which "
        f"would be unlearnt. Give the teacher a head of its own: as many classes in `teacher.arguments`, and its old "
        f"head, a layer, as `teacher.weights_except`."
    )

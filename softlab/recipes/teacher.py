"""A complete training run of a teacher, on hard targets."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self

from softlab.modalities.images.inputs import ImageInput
from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.modalities.opening import open_source
from softlab.recipes.building import load_recipe
from softlab.recipes.opening import OnScan, open_validation
from softlab.recipes.students import TeacherModel, build_students
from softlab.sources.options import SourceOptions
from softlab.student.loop import OnProgress
from softlab.student.options import TrainOptions
from softlab.student.run_folder import StudentResult
from softlab.student.train import train_students


@dataclass(frozen=True, kw_only=True)
class TeacherRecipe:
    """A complete training run of a teacher."""

    main_section: ClassVar[str] = "train"

    out: Path
    """Folder of the run: weights, metrics, what is needed to go on after a kill."""

    teacher: TeacherModel
    source: SourceOptions
    valid: SourceOptions | None = None
    input: ImageInput = field(default_factory=ImageInput)
    augment: ViewRecipe | None = None
    train: TrainOptions = field(default_factory=TrainOptions)

    @classmethod
    def load(cls, path: str | Path, *, set: Sequence[str] = ()) -> Self:
        """The recipe of a TOML file, overridden by `KEY=VALUE` texts such as `train.epochs=5`. Raises InvalidOption."""
        return load_recipe(cls, path=Path(path), assignments=set, main_section=cls.main_section)

    def run(self, *, on_scan: OnScan | None = None, on_progress: OnProgress | None = None) -> list[StudentResult]:
        """The trained teacher, the only one in the list. Raises as `train_students`."""
        used = self.teacher.input or self.input
        valid = open_validation(self.valid, modality=used.modality, on_scan=on_scan)
        source = open_source(self.source, modality=used.modality, on_scan=on_scan)
        return train_students(
            build_students({"teacher": self.teacher}, seeds={"teacher": self.train.seed}),
            source,
            [],
            self.train,
            input=used,
            augment=self.augment,
            valid=valid,
            out=self.out,
            on_progress=on_progress,
        )

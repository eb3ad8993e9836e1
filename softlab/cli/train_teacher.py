"""`softlab train-teacher`: train a teacher on hard targets."""

from dataclasses import dataclass, field
from pathlib import Path

from softlab.cli.flags import recipe_command
from softlab.cli.opening import open_with_bar
from softlab.cli.train_student import build_students
from softlab.cli.training import print_results, training_bar
from softlab.modalities.images.inputs import ImageInput
from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.models.build import ModelOptions
from softlab.sources.options import SourceOptions
from softlab.student.options import TrainOptions
from softlab.student.train import train_students
from softlab.student.validation import Validation


@dataclass(frozen=True, kw_only=True)
class TeacherRecipe:
    """A complete training run of a teacher."""

    out: Path
    """Folder of the run: weights, metrics, what is needed to go on after a kill."""

    teacher: ModelOptions
    source: SourceOptions
    valid: SourceOptions | None = None
    input: ImageInput = field(default_factory=ImageInput)
    augment: ViewRecipe | None = None
    train: TrainOptions = field(default_factory=TrainOptions)


@recipe_command(TeacherRecipe, main_section="train")
def train_teacher(recipe: TeacherRecipe) -> None:
    """Train a teacher on hard targets alone: the trainer of `train-student` without a store.

    Options of the distillation loss are accepted and have no effect. The weights for `dump-teacher` are
    OUT/teacher/best.safetensors or last.safetensors.
    """
    valid = None if recipe.valid is None else Validation(source=open_with_bar(recipe.valid))
    source = open_with_bar(recipe.source)
    with training_bar() as on_progress:
        results = train_students(
            build_students({"teacher": recipe.teacher}, seeds={"teacher": recipe.train.seed}),
            source,
            [],
            recipe.train,
            input=recipe.input,
            augment=recipe.augment,
            valid=valid,
            out=recipe.out,
            on_progress=on_progress,
        )
    print_results(results, out=recipe.out)

"""`softlab train-student`: train one or more students from a store, without the teacher."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from softlab.cli.flags import recipe_command
from softlab.cli.opening import open_with_bar
from softlab.cli.training import print_results, training_bar
from softlab.errors import InvalidOption
from softlab.models.build import ModelOptions, build_model
from softlab.sources.options import SourceOptions
from softlab.store.cache import CacheOptions
from softlab.store.reader import open_store
from softlab.student.options import TrainOptions
from softlab.student.train import train_students
from softlab.student.validation import Validation
from softlab.views.finishing import Finishing
from softlab.views.view_recipe import ViewRecipe


@dataclass(frozen=True, kw_only=True)
class TrainRecipe:
    """A complete training run."""

    out: Path
    """Folder of the run: weights, metrics, what is needed to go on after a kill."""

    store: Path
    """What the teacher said about the source."""

    valid_store: Path | None = None
    """What the teacher said about the validation source; without it only accuracy is measured."""

    student: dict[str, ModelOptions]
    """A student to train; give it several times to train several in one pass."""

    source: SourceOptions
    valid: SourceOptions | None = None
    input: Finishing = field(default_factory=Finishing)
    augment: ViewRecipe | None = None
    train: TrainOptions = field(default_factory=TrainOptions)
    cache: CacheOptions = field(default_factory=CacheOptions)


@recipe_command(TrainRecipe, main_section="train")
def train_student(recipe: TrainRecipe) -> None:
    """Train students on stored soft labels mixed with hard targets; the teacher is not run.

    A killed run goes on exactly where its last checkpoint was when the same command is run again.
    """
    store = open_store(recipe.store, cache=recipe.cache)
    if recipe.valid is None and recipe.valid_store is not None:
        raise InvalidOption("--valid-store without a validation source. Give --valid, or leave the store out.")
    valid = None
    if recipe.valid is not None:
        valid_store = open_store(recipe.valid_store, cache=recipe.cache) if recipe.valid_store else None
        valid = Validation(source=open_with_bar(recipe.valid), store=valid_store)
    source = open_with_bar(recipe.source)
    with training_bar() as on_progress:
        results = train_students(
            build_students(recipe.student, seed=recipe.train.seed),
            source,
            [store],
            recipe.train,
            finishing=recipe.input,
            augment=recipe.augment,
            valid=valid,
            out=recipe.out,
            on_progress=on_progress,
        )
    print_results(results, out=recipe.out)


def build_students(students: Mapping[str, ModelOptions], *, seed: int) -> dict[str, nn.Module]:
    """Each from the same seed, so that a student's initial weights don't depend on the others."""
    modules = {}
    for name, options in students.items():
        torch.manual_seed(seed)
        modules[name] = build_model(options)
    return modules

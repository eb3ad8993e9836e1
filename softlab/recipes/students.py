"""The students of a run: each model built from a seed of its own, and started from layers of the teacher if asked."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from softlab.errors import ModelError
from softlab.modalities.images.inputs import ImageInput
from softlab.models.build import ModelOptions, build_model
from softlab.models.inherit import InheritOptions, inherit
from softlab.recipes.options import RECIPE_ONLY


@dataclass(frozen=True, kw_only=True, slots=True)
class StudentModel(ModelOptions):
    """A student's model, and what it learns in another way than the others of its run."""

    train: dict[str, object] = field(default_factory=dict)
    """options of [train] that are this student's own, e.g. temperature or loss"""

    inherit: InheritOptions | None = None
    """which of the layers of [teacher] this student starts from"""

    input: ImageInput | None = field(default=None, metadata={RECIPE_ONLY: True})
    """how this student wants its samples; default: as [input] says"""


@dataclass(frozen=True, kw_only=True, slots=True)
class TeacherModel(ModelOptions):
    """A teacher's model."""

    input: ImageInput | None = field(default=None, metadata={RECIPE_ONLY: True})
    """how the teacher wants its samples; default: as [input] says"""


def build_students(students: Mapping[str, ModelOptions], *, seeds: Mapping[str, int]) -> dict[str, nn.Module]:
    """Each from its own seed, so that a student's initial weights don't depend on the others."""
    modules = {}
    for name, options in students.items():
        torch.manual_seed(seeds[name])
        modules[name] = build_model(options)
    return modules


def inherit_layers(
    modules: Mapping[str, nn.Module], students: Mapping[str, StudentModel], *, teacher: ModelOptions | None
) -> None:
    """Give the students that ask for it their layers of the teacher, which is built only then."""
    heirs = {name: options.inherit for name, options in students.items() if options.inherit is not None}
    if not heirs:
        return
    assert teacher is not None, "the recipe has checked it"
    built = build_model(teacher)
    for name, options in heirs.items():
        try:
            inherit(modules[name], built, options)
        except ModelError as error:
            raise ModelError(f"[student.{name}.inherit]: {error}") from error

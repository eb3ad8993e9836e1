"""The students of a run: each model built from a seed of its own, and started from layers of the teacher if asked."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import nn

from softlab.errors import ModelError
from softlab.labels.losses import StudentLoss
from softlab.modalities.images.inputs import ImageInput
from softlab.modalities.modality import fitted_input, model_arguments, settle_input, tells_models
from softlab.models.build import ModelOptions, build_model
from softlab.models.inherit import InheritOptions, inherit
from softlab.recipes.options import OVER_RUN
from softlab.sources.source import Source
from softlab.student.feature_losses import FeatureLoss
from softlab.student.heads.options import HeadOptions
from softlab.student.optimizer import OptimizerOptions
from softlab.student.options import LearnOptions, TargetOptions, TeachersOptions
from softlab.student.pruning import PruneOptions
from softlab.student.robust_options import RobustOptions


@dataclass(frozen=True, kw_only=True, slots=True)
class StudentModel(ModelOptions):
    """A student's model, and what it learns in another way than the others of its run."""

    seed: int | None = None
    """Of its initial weights and dropout; default: `run.seed`."""

    inherit: InheritOptions | None = None
    """Which of the layers of [teacher] this student starts from."""

    input: ImageInput | None = field(default=None, metadata={OVER_RUN: True})
    """How this student wants its samples, where that is not as [input] says."""

    teachers: TeachersOptions | None = field(default=None, metadata={OVER_RUN: True})
    """How much it learns from its teachers, where that is not as [teachers] says."""

    loss: StudentLoss | None = field(default=None, metadata={OVER_RUN: True})
    """Its distillation loss, where that is not as [loss] says; one of another name begins from that loss's defaults."""

    targets: TargetOptions | None = field(default=None, metadata={OVER_RUN: True})
    """How it learns hard targets, where that is not as [targets] says."""

    optimizer: OptimizerOptions | None = field(default=None, metadata={OVER_RUN: True})
    """How its weights are updated, where that is not as [optimizer] says."""

    feature: dict[str, FeatureLoss] | None = field(default=None, metadata={OVER_RUN: True})
    """The features that it learns, in place of all under [feature]."""

    head: dict[str, HeadOptions] | None = field(default=None, metadata={OVER_RUN: True})
    """The outputs of its model that learn, in place of all under [head]."""

    prune: PruneOptions | None = field(default=None, metadata={OVER_RUN: True})
    """How it is pruned, where that is not as [prune] says."""

    robust: RobustOptions | None = field(default=None, metadata={OVER_RUN: True})
    """How it learns to withstand attacks, where that is not as [robust] says."""

    def learn(self, shared: LearnOptions) -> LearnOptions:
        """What it learns and how: its own, and else what the students of the run share."""
        own = {each.name: getattr(self, each.name) for each in fields(LearnOptions)}
        return replace(shared, **{name: value for name, value in own.items() if value is not None})


@dataclass(frozen=True, kw_only=True, slots=True)
class TeacherModel(ModelOptions):
    """A teacher's model."""

    input: ImageInput | None = field(default=None, metadata={OVER_RUN: True})
    """How the teacher wants its samples, where that is not as [input] says."""


def input_before_model(options: ModelOptions, input: Any, source: Source) -> Any:
    """The input of a model as it must be known before the model is built: settled, where it tells the model something,
    such as the size of a vocabulary."""
    return inputs_before_models({"it": options}, {"it": input}, source)["it"]


def inputs_before_models(
    models: Mapping[str, ModelOptions], inputs: Mapping[str, Any], source: Source
) -> dict[str, Any]:
    """The same of several models, by name: samples are looked at once for those that want them alike."""
    fitted = {name: fitted_input(inputs[name], model=options.model) for name, options in models.items()}
    settled = {
        each: settle_input(each, source) if tells_models(each) else each for each in dict.fromkeys(fitted.values())
    }
    return {name: settled[each] for name, each in fitted.items()}


def build_students(
    students: Mapping[str, ModelOptions], *, seeds: Mapping[str, int], inputs: Mapping[str, Any]
) -> dict[str, nn.Module]:
    """Each from its own seed, so that a student's initial weights don't depend on the others."""
    modules = {}
    for name, options in students.items():
        torch.manual_seed(seeds[name])
        modules[name] = build_model(options, told=model_arguments(inputs[name]))
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

"""A teacher's own run over a validation source: all of its classes, so that what is measured against it is exact."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from softlab.errors import InvalidOption
from softlab.evaluation.one_model import first_input, open_inputs
from softlab.labels.soft_labels import Head
from softlab.loading.options import CheckOptions
from softlab.modalities.images.inputs import ImageInput
from softlab.modalities.modality import find_modality, model_arguments, outputs_of_input, tells_targets, told_anew
from softlab.models.about import AboutWeights
from softlab.models.build import build_model
from softlab.models.device import DeviceOptions, place
from softlab.models.rows import logits_of
from softlab.recipes.published_input import input_of
from softlab.recipes.students import TeacherModel, input_before_model
from softlab.recipes.weights_input import about_weights, input_of_weights, seen_in_training
from softlab.sources.source import Source
from softlab.store.cache import CacheOptions
from softlab.store.reader import Store, open_store
from softlab.teacher.dump import dump_teacher
from softlab.teacher.forward import Teacher
from softlab.teacher.options import DumpOptions


def full_store(
    options: TeacherModel,
    source: Source,
    out: Path,
    *,
    input: ImageInput,
    device: DeviceOptions,
    head: Head = "softmax",
    class_names: tuple[str, ...] | None = None,
    cache: CacheOptions | None = None,
) -> Store:
    """The store at `out` with all classes of the teacher in float32, at T = 1; the teacher is run, in full precision,
    where it isn't there yet. Weights that tell their input are run with that, whatever the `input` of the other models.
    Raises as `dump_teacher`, and InvalidOption for a `teacher.input` that contradicts the weights."""
    device, about = replace(device, autocast="none", compile=False), about_weights(options)
    used = _input_of(options, about, others=input)
    seen = () if about is None else seen_in_training(about, used)
    used = input_before_model(options, used, source)
    teacher = Teacher(
        module=build_model(options, told=model_arguments(used)),
        name=options.model,
        arguments=options.arguments,
        input=used,
        seen=seen,
        class_names=class_names,
    )
    if tells_targets(used):
        raise InvalidOption(
            f"{options.model}: answers over a vocabulary for each token, and all of its classes are not stored. Give a "
            f"store of sampled rows instead (`valid_store`, or `store`): KL to the teacher is measured by that."
        )
    k = _count_classes(teacher, source, device)
    dump_teacher(teacher, source, out, DumpOptions(k=k, coding="float32", temperature=(1.0,), head=head, device=device))
    return open_store(out, cache=cache)


def _input_of(options: TeacherModel, about: AboutWeights | None, *, others: Any) -> Any:
    if about is None:
        return options.input or input_of(options, others, key="teacher.input")
    given = options.input or find_modality(about.input.modality).input_options()
    recorded = input_of_weights(about, given, key="teacher.input")
    return told_anew(recorded, others) if others.modality == recorded.modality else recorded


def _count_classes(teacher: Teacher, source: Source, device: DeviceOptions) -> int:
    """By what the teacher gives for one sample."""
    loader = open_inputs(source, input=teacher.input, device=device, check=CheckOptions())
    module = place(teacher.module.eval(), loader.device, channels_last=device.channels_last)
    inputs = first_input(loader, channels_last=device.channels_last)
    joined = outputs_of_input(teacher.input)
    return logits_of(module, inputs, device=loader.device, autocast=device.autocast, joined=joined).rows.shape[1]

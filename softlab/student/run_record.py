"""What a training run is: everything that must be the same for a killed one to go on."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from typing import Any

from msgspec import UNSET

from softlab.identity import digest_of, keys_fingerprint
from softlab.loading.aligned import Aligned
from softlab.manifest import InputRecord
from softlab.modalities.modality import InputOptions, find_modality, options_by_name
from softlab.modalities.views import describe_views
from softlab.models.about import AboutWeights, as_metadata
from softlab.models.weights import weights_fingerprint
from softlab.store.mapped import MappedStore
from softlab.store.reader import Store
from softlab.student.heads.objective import HeadsObjective
from softlab.student.inputs import TrainingData
from softlab.student.learner import Learner
from softlab.student.options import TrainOptions
from softlab.student.validation import Validation


def describe_run(
    learners: list[Learner],
    data: TrainingData,
    valid: Validation | None,
    also_valid: Mapping[str, Validation],
    options: TrainOptions,
    *,
    best_by: str | None,
) -> dict[str, Any]:
    """What must be the same for a killed run to go on; `best_by` is the metric that the option stands for.

    What decides is whose an option is: those of [run] and [distil] and a student's own must be the same, those of
    [check] and [log] may differ, and of [device] what kind it is and how models run on it is compared.
    """
    source, stores = data.aligned.source, data.aligned.stores
    return {
        "versions": {name: version(name) for name in ["softlab", "torch", "torchvision"]},
        "views": {
            "replayed": describe_views(data.views),
            "fingerprint": data.views.fingerprint,
            "as_the_teacher_saw": _as_the_teacher_saw(data, stores, options),
        },
        "source": {"name": source.name, "keys_fingerprint": keys_fingerprint(source.keys)},
        "stores": [store.digest for store in stores],
        **({"classes": maps} if (maps := _class_maps(stores)) else {}),
        "outputs": [store.labels.name if store.has_labels else None for store in stores],
        **({"heads": heads} if (heads := _heads(data)) else {}),
        "valid": None if valid is None else keys_fingerprint(valid.source.keys),
        "valid_store": None if valid is None or valid.store is None else valid.store.digest,
        **({"valid_others": [store.digest for store in valid.others]} if valid is not None and valid.others else {}),
        "also_valid": {
            name: [keys_fingerprint(each.source.keys), None if each.store is None else each.store.digest]
            for name, each in also_valid.items()
        },
        "best_by": best_by,
        "run": _run_options(options, best_by=best_by),
        "distil": asdict(options.distil),
        **({} if data.kept is None else {"kept": asdict(data.kept)}),
        "students": {
            learner.name: {
                "module": digest_of(repr(learner.module).encode()),
                "initial_weights": weights_fingerprint(learner.module),
                "device": _describe_device(learner, options),
                "input": _describe_input(data.aligned.inputs[learner.input_index], data),
                "loss": _loss_name(learner),
                "objective": _told(asdict(learner.objective), unless_default={"attacks_by_targets": False}),
                **({} if learner.robust is None else {"robust": asdict(learner.robust.options)}),
                "optimizer": _told(asdict(learner.optimizer), unless_default={"fused": False}),
                "prune": None if learner.prune is None else asdict(learner.prune),
                "seed": learner.seed,
            }
            for learner in learners
        },
    }


def about_students(record: Mapping[str, Any], *, class_names: tuple[str, ...] | None) -> dict[str, dict[str, str]]:
    """What each student's weights say of themselves, from the run's description."""
    shared = {name: record[name] for name in ("versions", "stores", "outputs", "run", "distil")}
    found = {}
    for name, student in record["students"].items():
        options = dict(student["input"])
        modality, decode = options.pop("modality"), options.pop("decode", UNSET)
        input = InputRecord(field=find_modality(modality).field, modality=modality, options=options, decode=decode)
        recipe = shared | {"student": {each: value for each, value in student.items() if each != "input"}}
        found[name] = as_metadata(AboutWeights(input=input, class_names=class_names, recipe=recipe))
    return found


def _run_options(options: TrainOptions, *, best_by: str | None) -> dict[str, Any]:
    """With the metric that was chosen."""
    told = asdict(replace(options.run, best_by=best_by or options.run.best_by))
    return _told(told, unless_default={"batch_by_length": False, "views_per_image": 1})


def _told(options: dict[str, Any], *, unless_default: Mapping[str, Any]) -> dict[str, Any]:
    """What an option says that there wasn't always is told where it isn't this default."""
    return {
        name: value for name, value in options.items() if name not in unless_default or value != unless_default[name]
    }


def _loss_name(learner: Learner) -> str:
    """Of a student with several heads those of all of them."""
    if isinstance(learner.objective, HeadsObjective):
        return ", ".join(dict.fromkeys(each.loss.name for each in learner.objective.heads.values()))
    return learner.objective.loss.name


def _heads(data: TrainingData) -> dict[str, dict[str, Any]]:
    """What each head learns from, and what its classes are called; none of students with one output."""
    return {
        name: {
            "store": None if head.store is None else head.store.digest,
            "output": _output_of(head),
            "target": next(iter(head.source.targets), None),
            "class_names": None if head.store is None or head.values_output is not None else head.store.class_names,
        }
        for name, head in data.aligned.heads.items()
    }


def _output_of(head: Aligned) -> str | None:
    if head.values_output is not None or head.store is None:
        return head.values_output
    return head.store.labels.name


def _class_maps(stores: Sequence[Store]) -> list[list[list[int]]]:
    """Which classes of each teacher its students' are; none where they are the teacher's own."""
    return [[list(group) for group in store.classes.groups] for store in stores if isinstance(store, MappedStore)]


def _describe_input(options: InputOptions, data: TrainingData) -> dict[str, Any]:
    modality = next(each for each in data.aligned.modalities if each.name == options.modality)
    decode = getattr(modality, "decode_record", None)
    described = {"modality": options.modality} | options_by_name(options)
    return described if decode is None else described | {"decode": decode}


def _describe_device(learner: Learner, options: TrainOptions) -> dict[str, Any]:
    how = options.device
    return {
        "type": learner.device.type,
        "autocast": how.autocast,
        "channels_last": how.channels_last,
        "compile": how.compile,
    }


def _as_the_teacher_saw(data: TrainingData, stores: Sequence[Store], options: TrainOptions) -> str:
    """`yes`, `no`, `not checked`, or `no teacher`: what was known of the views when the run began."""
    if not stores:
        return "no teacher"
    if any(store.manifest.views.fingerprint != data.views.fingerprint for store in stores):
        return "no"
    is_checked = options.check.views_mismatch == "refuse" and all(store.manifest.digest_files for store in stores)
    return "yes" if is_checked else "not checked"

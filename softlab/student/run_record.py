"""What a training run is: everything that must be the same for a killed one to go on."""

from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from softlab.identity import digest_of, keys_fingerprint
from softlab.modalities.modality import InputOptions, options_by_name
from softlab.modalities.views import describe_views
from softlab.models.weights import weights_fingerprint
from softlab.store.reader import Store
from softlab.student.inputs import TrainingData
from softlab.student.learner import Learner
from softlab.student.options import OF_THE_RUN, TrainOptions
from softlab.student.validation import Validation

FREE_ON_RESUME = ("workers", "verify_inputs", "track", "checkpoint_steps", "best_by")
"""Options that don't change what is learnt, and may differ when a killed run goes on. Of `best_by` the metric that it
stands for must be the same."""


def describe_run(
    learners: list[Learner],
    data: TrainingData,
    valid: Validation | None,
    options: TrainOptions,
    *,
    best_by: str | None,
) -> dict[str, Any]:
    """What must be the same for a killed run to go on."""
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
        "outputs": [store.labels.name if store.has_labels else None for store in stores],
        "valid": None if valid is None else keys_fingerprint(valid.source.keys),
        "valid_store": None if valid is None or valid.store is None else valid.store.digest,
        "best_by": best_by,
        "options": {name: value for name, value in asdict(options).items() if name not in FREE_ON_RESUME},
        "students": {
            learner.name: {
                "module": digest_of(repr(learner.module).encode()),
                "initial_weights": weights_fingerprint(learner.module),
                "device": learner.device.type,
                "input": _describe_input(data.aligned.inputs[learner.input_index]),
                "objective": asdict(learner.objective),
                "options": {name: value for name, value in asdict(learner.options).items() if name not in OF_THE_RUN},
            }
            for learner in learners
        },
    }


def _describe_input(options: InputOptions) -> dict[str, Any]:
    return {"modality": options.modality} | options_by_name(options)


def _as_the_teacher_saw(data: TrainingData, stores: Sequence[Store], options: TrainOptions) -> str:
    """`yes`, `no`, `not checked`, or `no teacher`: what was known of the views when the run began."""
    if not stores:
        return "no teacher"
    if any(store.manifest.views.fingerprint != data.views.fingerprint for store in stores):
        return "no"
    is_checked = options.views_mismatch == "refuse" and all(store.manifest.digest_files for store in stores)
    return "yes" if is_checked else "not checked"

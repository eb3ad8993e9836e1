"""Keys that recipes had before, with those that took their place."""

from collections.abc import Iterator, Mapping
from typing import Any

_OF_TRAIN = {
    "epochs": "run.epochs",
    "batch_size": "run.batch_size",
    "max_samples": "run.max_samples",
    "seed": "run.seed",
    "best_by": "run.best_by",
    "baseline": "distil.baseline",
    "new_classes": "distil.new_classes",
    "view_order": "distil.view_order",
    "shuffle": "distil.shuffle",
    "alpha": "teachers.alpha",
    "alpha_end": "teachers.alpha_end",
    "teacher_weight": "teachers.weight",
    "combine": "teachers.combine",
    "weigh": "teachers.weigh",
    "loss": "loss.name",
    "temperature": "loss.temperature",
    "temperature_end": "loss.temperature_end",
    "tail": "loss.tail",
    "balance": "loss.balance",
    "beta": "loss.beta",
    "margin": "loss.margin",
    "dkd_alpha": "loss.alpha",
    "dkd_beta": "loss.beta",
    "dist_inter": "loss.inter",
    "dist_intra": "loss.intra",
    "label_smoothing": "targets.label_smoothing",
    "feature": "feature",
    "prune": "prune",
    "optimizer": "optimizer.name",
    "learning_rate": "optimizer.learning_rate",
    "momentum": "optimizer.momentum",
    "weight_decay": "optimizer.weight_decay",
    "schedule": "optimizer.schedule",
    "warmup_epochs": "optimizer.warmup_epochs",
    "clip_norm": "optimizer.clip_norm",
    "subset": "check.subset",
    "verify_inputs": "check.verify_inputs",
    "views_mismatch": "check.views_mismatch",
    "track": "log.track",
    "checkpoint_steps": "log.checkpoint_steps",
    "workers": "device.workers",
    "device": "device.name",
    "autocast": "device.autocast",
    "channels_last": "device.channels_last",
    "compile": "device.compile",
}

_OF_DEVICE = {name: f"device.{name}" for name in ("autocast", "channels_last", "compile", "workers")}
_OF_CHECK = {name: f"check.{name}" for name in ("subset", "verify_inputs", "views_mismatch")}

RENAMED: dict[str, str] = {
    **{f"train.{name}": key for name, key in _OF_TRAIN.items()},
    **{f"dump.{name}": key for name, key in ({"device": "device.name"} | _OF_DEVICE).items()},
    **{f"evaluate.{name}": key for name, key in ({"device": "device.name"} | _OF_DEVICE | _OF_CHECK).items()},
}

_OWN_SECTIONS = ("loss", "optimizer", "targets", "teachers", "feature", "prune")
"""Of a student: what its table `train` held."""


def renamed(key: str, value: Any) -> list[tuple[str, str]]:
    """Of an unknown key the keys below it that have another name now, each with that name."""
    found = []
    for each in _leaves(key, value):
        if each in RENAMED:
            found.append((each, RENAMED[each]))
        elif (parts := each.split("."))[0] == "student" and len(parts) == 4 and parts[2] == "train":
            new = RENAMED.get(f"train.{parts[3]}", "")
            if parts[3] == "seed":
                found.append((each, f"student.{parts[1]}.seed"))
            elif new:
                is_own = new.partition(".")[0] in _OWN_SECTIONS
                found.append((each, f"student.{parts[1]}.{new}" if is_own else new))
    return found


def _leaves(key: str, value: Any) -> Iterator[str]:
    """The dotted keys of a table, two below it at most."""
    yield key
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _leaves(f"{key}.{name}", inner)

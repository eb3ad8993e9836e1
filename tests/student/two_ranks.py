"""What two ranks do; `test_ranks.py` starts them and looks at what they leave.

FOLDER/store is a store of the pictures. Each run leaves FOLDER/NAME/rank-R.json and the students' weights beside it.
"""

import json
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from softlab.errors import InvalidOption
from softlab.sources.source import Sample
from softlab.store.cache import CacheOptions
from softlab.store.reader import open_store
from softlab.student.feature_losses import FeatureLoss
from softlab.student.heads.options import HeadOptions
from softlab.student.loop import TrainProgress
from softlab.student.pruning import PruneOptions
from softlab.student.run_folder import StudentResult
from tests.student.pictures import make_student, pictures, train
from tests.teacher.dumping import Pictures

ALL_OPTIONS: dict[str, Any] = {
    "feature": {"mean": FeatureLoss(layer="conv:mean")},
    "prune": PruneOptions(amount=0.5, every_steps=1, end=0.7),
    "clip_norm": 0.5,
    "label_smoothing": 0.1,
    "alpha_end": 0.5,
    "channels_last": True,
    "optimizer": "sgd",
    "learning_rate": 0.1,
}

Students = dict[str, nn.Module]


def rank() -> int:
    return int(os.environ.get("RANK", "0"))


class Watched(Pictures):
    """Knows which pictures were read, in their order."""

    seen: list[int]

    def read(self, index: int) -> Sample:
        self.seen.append(index)
        return super().read(index)


class Bad(nn.Module):
    """Its loss is not a number from the fifth step on, in one of the processes."""

    steps: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layers = make_student(seed=1)
        self.register_buffer("steps", torch.tensor(0))

    def forward(self, images_BCHW: Tensor) -> Tensor:
        self.steps += self.training
        logits_BC: Tensor = self.layers(images_BCHW)
        return logits_BC * float("nan") if self.steps > 4 and rank() == 1 else logits_BC


def make_plain() -> Students:
    """Without what differs between processes: batch normalisation and dropout."""
    return {"small": make_student(batch_norm=False)}


class TwoHeads(nn.Module):
    """Returns two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = make_student(batch_norm=False), make_student(seed=2, batch_norm=False)

    def forward(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        return {"one": self.one(images_BCHW), "other": self.other(images_BCHW)}


HEADS = {"one": HeadOptions(output="logits", alpha=1.0), "other": HeadOptions(output="logits", weight=2.0, alpha=1.0)}


def make_two() -> Students:
    return make_plain() | {"other": make_student(seed=2, batch_norm=False)}


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of both processes."""

    make: Callable[[], Students] = make_plain
    options: Mapping[str, Any] = field(default_factory=dict)
    stop: int | None = None
    """Step after which it is interrupted."""

    count: int = 24
    """Pictures, and there is a store only of the 24."""

    elsewhere: bool = False
    """Whether the second process is told to write to another folder."""


RUNS = {
    "plain": Run(elsewhere=True),
    "all_options": Run(options=ALL_OPTIONS),
    "one_epoch": Run(options={"epochs": 1}),
    "validated": Run(make=make_two, options={"valid": True, "checkpoint_steps": 2}),
    "normalised": Run(make=lambda: {"small": make_student(dropout=0.5)}, options={"valid": True}),
    "own_weights": Run(make=lambda: {"small": make_student(seed=rank(), batch_norm=False)}),
    "set_aside": Run(make=lambda: make_plain() | {"bad": Bad()}, options={"valid": True}),
    "heads": Run(make=lambda: {"small": TwoHeads()}, options={"head": HEADS}),
    "odd_batches": Run(options={"batch_size": 7}),
    "few_pictures": Run(count=5),
    "begun_by_two": Run(make=make_two, options={"checkpoint_steps": 4}, stop=5),
    "begun_by_one": Run(make=make_two, options={"checkpoint_steps": 4}),
}

KILLED = "killed"
"""The last run, of both processes by SIGKILL; as `begun_by_two`."""


def do_all(folder: Path) -> None:
    for name, run in RUNS.items():
        _do(folder / name, run)
    train(
        make_two(),
        open_store(folder / "store", cache=CacheOptions(dir=folder / "cache")),
        out=folder / KILLED / "out",
        on_progress=_kill,
        checkpoint_steps=4,
    )


def _do(folder: Path, run: Run) -> None:
    students, source = run.make(), Watched(**_fields(pictures(count=run.count)))
    object.__setattr__(source, "seen", [])
    store = open_store(folder.parent / "store", cache=CacheOptions(dir=folder.parent / "cache"))
    results: list[StudentResult] = []
    steps: list[int] = []
    error = ""

    def on_progress(progress: TrainProgress) -> None:
        steps.append(progress.step)
        if progress.step == run.stop:
            raise KeyboardInterrupt

    try:
        results = train(
            students,
            [store] if run.count == store.num_samples else [],
            source=source,
            out=folder / ("elsewhere" if run.elsewhere and rank() else "out"),
            on_progress=on_progress,
            **run.options,
        )
    except (InvalidOption, KeyboardInterrupt) as caught:
        error = f"{type(caught).__name__}: {caught}"
    folder.mkdir(exist_ok=True)
    for name, module in students.items():
        weights = {key: tensor.contiguous() for key, tensor in module.state_dict().items()}
        save_file(weights, folder / f"rank-{rank()}-{name}.safetensors")
    # The first reading of all compares them with the store.
    left = {
        "error": error,
        "steps": steps,
        "seen": sorted(set(source.seen[2 * run.count :])),  # behind a look at their kinds and contents
        "results": msgspec.to_builtins(results),
    }
    (folder / f"rank-{rank()}.json").write_text(json.dumps(left))


def _fields(source: Pictures) -> dict[str, Any]:
    return {name: getattr(source, name) for name in source.__dataclass_fields__}


def _kill(progress: TrainProgress) -> None:
    if progress.step == 5:
        os.kill(os.getpid(), signal.SIGKILL)

"""Live curves of a training run, for TensorBoard or Weights & Biases."""

import secrets
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from softlab.errors import InvalidOption, TrackerFailed
from softlab.evaluation.evaluation import Evaluation

TrackerName = Literal["tensorboard", "wandb"]

PROJECT = "softlab"

TRACKER_FOLDERS: tuple[TrackerName, ...] = get_args(TrackerName)
"""In the folder of a run, each named as its tracker."""


class Tracker(Protocol):
    """Where curves are written to."""

    name: TrackerName

    def log(self, values: dict[str, float], *, step: int) -> None: ...

    def finish(self) -> None:
        """Write what is not yet written."""


class TensorBoardTracker:
    """Files in OUT/tensorboard."""

    name: TrackerName = "tensorboard"

    def __init__(self, out: Path, *, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes .1 s, and only runs with a folder need it

        self._writer: Any = SummaryWriter(out / "tensorboard", purge_step=first_step + 1)

    def log(self, values: dict[str, float], *, step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, global_step=step)
        self._writer.flush()

    def finish(self) -> None:
        self._writer.close()


class WandbTracker:
    """Files in OUT/wandb, and what wandb sends."""

    name: TrackerName = "wandb"

    def __init__(self, out: Path, *, first_step: int) -> None:
        """Raises InvalidOption where wandb isn't installed."""
        try:
            import wandb
        except ImportError as error:
            raise InvalidOption(
                "log.track = wandb: wandb is not installed. Run pip install 'softlab[wandb]'."
            ) from error
        run_id = _wandb_id(out, is_new=first_step == 0)
        self._run = wandb.init(project=PROJECT, dir=str(out), name=out.name, id=run_id, resume="allow")

    def log(self, values: dict[str, float], *, step: int) -> None:
        self._run.log(values, step=step)

    def finish(self) -> None:
        self._run.finish()


TRACKERS: Mapping[TrackerName, Callable[..., Tracker]] = {"tensorboard": TensorBoardTracker, "wandb": WandbTracker}


def start_trackers(names: Sequence[TrackerName], out: Path, *, first_step: int) -> list[Tracker]:
    """What `log` writes to; curves of a run that goes on continue at `first_step`.

    TensorBoard's files are in OUT/tensorboard; those of Weights & Biases, of which WANDB_MODE=offline uploads nothing,
    in OUT/wandb. Raises InvalidOption for a tracker whose package isn't installed. One that fails later, on a full disk
    say, is set aside with a note (TrackerFailed): no training ends for its curves.
    """
    trackers: list[Tracker] = []
    for name in names:
        with _noting_failure(name):
            trackers.append(TRACKERS[name](out, first_step=first_step))
    return trackers


def log(trackers: list[Tracker], values: dict[str, float], *, step: int) -> None:
    """Values by `measure/student`, so that the students of a run stand side by side. A tracker that fails leaves."""
    for tracker in list(trackers):
        with _noting_failure(tracker.name, leaves=partial(trackers.remove, tracker)):
            tracker.log(values, step=step)


def finish_trackers(trackers: Sequence[Tracker]) -> None:
    """Write what is not yet written."""
    for tracker in trackers:
        with _noting_failure(tracker.name):
            tracker.finish()


@contextmanager
def _noting_failure(name: str, *, leaves: Callable[[], None] = lambda: None) -> Iterator[None]:
    try:
        yield
    except InvalidOption:
        raise
    except Exception as error:  # whatever another package raises about its files or its server
        leaves()
        reason = str(error).partition("\n")[0] or type(error).__name__
        warnings.warn(
            f"log.track: {name} fails ({reason}). Its curves end here and the run goes on; metrics.jsonl has all.",
            TrackerFailed,
            stacklevel=4,
        )


@contextmanager
def quiet_threads() -> Iterator[None]:
    """TensorBoard's writer ends its thread with an error that the next call raises again; that one is told."""
    told = threading.excepthook

    def tell(failure: threading.ExceptHookArgs) -> None:
        if not type(failure.thread).__module__.startswith("tensorboard."):
            told(failure)

    threading.excepthook = tell
    try:
        yield
    finally:
        threading.excepthook = told


def step_curves(student: str, *, train_loss: float, learning_rate: float) -> dict[str, float]:
    """One student's values between two epochs."""
    return {f"step_loss/{student}": train_loss, f"step_learning_rate/{student}": learning_rate}


def curves(
    student: str,
    *,
    train_loss: float | None = None,
    learning_rate: float | None = None,
    valid: Evaluation | None = None,
) -> dict[str, float]:
    """One student's values after an epoch, those that are known."""
    measures = {} if valid is None else dict(valid.values)
    if train_loss is not None:
        measures["train_loss"] = train_loss
    if learning_rate is not None:
        measures["learning_rate"] = learning_rate
    return {f"{measure}/{student}": value for measure, value in measures.items()}


def _wandb_id(out: Path, *, is_new: bool) -> str:
    """Of the run, kept beside its curves: one that goes on continues them, one that is begun anew has its own."""
    path = out / "wandb" / "id"
    if is_new or not path.exists():
        path.parent.mkdir(exist_ok=True)
        path.write_text(secrets.token_hex(6))
    return path.read_text()

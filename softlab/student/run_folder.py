"""What a training run leaves on disk, and how a killed one goes on.

OUT/run.json                     what this run is; a resumed one must be the same
OUT/metrics.jsonl                one line a student and epoch
OUT/NAME/best.safetensors, .json the weights of the best validation epoch, and how good they were
OUT/NAME/last.safetensors, .json the weights after the last step
OUT/summary.json                 the final table; written last, so its presence means that the run is finished
OUT/resume/step-N/NAME.safetensors   weights, optimizer and projectors of every student at step N
OUT/resume/position.json             which N is valid; replaced only after all of its files are on disk
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from safetensors.torch import load, save
from torch import Tensor

from softlab.amounts import format_duration
from softlab.disk import TEMPORARY_SUFFIX
from softlab.errors import StoreExists, StoreMismatch
from softlab.evaluation.evaluation import Evaluation
from softlab.manifest import differences
from softlab.ranks import ALONE, Ranks
from softlab.store.files import write_files
from softlab.student.learner import State
from softlab.student.pruning import Sparsity

RUN, SUMMARY, METRICS = "run.json", "summary.json", "metrics.jsonl"
RESUME = "resume"
POSITION = f"{RESUME}/position.json"


class Stopped(msgspec.Struct, frozen=True, kw_only=True):
    """A student that stopped early."""

    epoch: int
    """The last one that it learnt in."""

    sparsity: Sparsity | None


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """How far a run is."""

    step: int
    """Steps done."""

    metrics_bytes: int
    """Of metrics.jsonl at that step: what a killed run wrote after it is cut off."""

    best: dict[str, Evaluation]
    """By student: the best epoch so far."""

    last: dict[str, Evaluation]
    train_loss: dict[str, float]
    """By student: of the last finished epoch."""

    seconds: dict[str, float]
    """By student: time spent in its steps."""

    also: dict[str, dict[str, Evaluation]] = {}
    """By student and name of a further validation source: of the last epoch."""

    since_best: dict[str, int] = {}
    """By student: the epochs after its best one."""

    stopped: dict[str, Stopped] = {}
    """By student: of those that stopped early."""

    errors: dict[str, str]
    """By student: why it was set aside."""


class StudentResult(msgspec.Struct, frozen=True, kw_only=True):
    """One student after its last step."""

    name: str
    num_parameters: int
    train_loss: float | None
    """Mean over the last epoch that it finished."""

    last: Evaluation | None
    """On the validation source, if there is one."""

    best: Evaluation | None
    """Of the epoch that is the best by one metric."""

    best_by: str | None
    """The name of that metric; None where nothing was measured."""

    also: dict[str, Evaluation] = {}
    """On further validation sources, by their names, after its last epoch."""

    epochs: int | None = None
    """After which it stopped, where that was early."""

    seconds: float
    """Spent in its own steps: forward, backward, update; on a GPU, in queueing them."""

    sparsity: Sparsity | None = None
    """Which share of its weights is zero, if it was pruned."""

    error: str | None = None
    """Why it was set aside, if it was."""

    def __repr__(self) -> str:
        figures = [f"{self.num_parameters:,} parameters"]
        figures += [] if self.error is None else [f"set aside: {self.error}"]
        figures += [] if self.train_loss is None else [f"train loss {self.train_loss:.4g}"]
        for kind, evaluation in (("", self.last), ("best ", self.best)):
            if evaluation is not None and self.best_by in evaluation.values:
                figures.append(kind + evaluation.figure(self.best_by))
        return f"StudentResult({', '.join([self.name, *figures, format_duration(self.seconds)])})"


class RunFolder:
    """One run's folder, new or interrupted."""

    def __init__(self, root: Path, run: Mapping[str, Any], *, begin_anew: bool = False, ranks: Ranks = ALONE) -> None:
        """Raises StoreExists for a folder of something else, StoreMismatch for an interrupted run of another kind; one
        that has no checkpoint yet is begun anew, and with `begin_anew` any run."""
        self.root, self._ranks = root, ranks
        self._metrics = root / METRICS
        if ranks.is_first:
            if begin_anew:
                self._remove_run()
            self._begin(run)
        ranks.wait()

    def _remove_run(self) -> None:
        """What a run here has written, run.json last; nothing in a folder of something else."""
        record = self.root / RUN
        if not record.exists():
            return
        students = json.loads(record.read_text())["students"]
        for path in (self.root / name for name in (SUMMARY, POSITION, METRICS)):
            path.unlink(missing_ok=True)
        for folder in (self.root / Path(name).name for name in (RESUME, *students)):
            shutil.rmtree(folder, ignore_errors=True)
        record.unlink()

    def _begin(self, run: Mapping[str, Any]) -> None:
        root = self.root
        is_run = (root / RUN).exists()
        if is_run and any((root / name).exists() for name in (POSITION, SUMMARY)):
            _check_same_run(root, json.loads((root / RUN).read_text()), json.loads(_json(run)))
        elif not is_run and root.exists() and not _is_free(root):
            raise StoreExists(f"{root}: already holds something that is not a training run. Choose another `out`.")
        else:
            write_files(root, {RUN: _json(run)})

    def results(self) -> list[StudentResult] | None:
        """Of a finished run."""
        path = self.root / SUMMARY
        return msgspec.json.decode(path.read_bytes(), type=list[StudentResult]) if path.exists() else None

    def position(self) -> Position | None:
        """Where an interrupted run goes on; metrics written after that point, and half-written files, are removed."""
        path = self.root / POSITION
        position = msgspec.json.decode(path.read_bytes(), type=Position) if path.exists() else None
        if self._ranks.is_first:
            self._remove_what_came_after(position)
        self._ranks.wait()
        return position

    def _remove_what_came_after(self, position: Position | None) -> None:
        for leftover in self.root.rglob(f"*{TEMPORARY_SUFFIX}"):
            leftover.unlink()
        if position is None:
            self._metrics.unlink(missing_ok=True)
            return
        with self._metrics.open("ab") as file:
            file.truncate(position.metrics_bytes)

    def load_state(self, position: Position, name: str) -> State:
        """One student's state at that position."""
        state: State = load((self.root / _step_folder(position.step) / f"{name}.safetensors").read_bytes())
        return state

    def save_state(self, states: Mapping[str, State], position: Position) -> None:
        """All students' states at one step; the ones of an earlier step are removed afterwards."""
        _sync(self._metrics)
        folder = _step_folder(position.step)
        write_files(self.root, {f"{folder}/{name}.safetensors": save(state) for name, state in states.items()})
        write_files(self.root, {POSITION: msgspec.json.encode(position)})
        for other in (self.root / RESUME).glob("step-*"):
            if other.name != Path(folder).name:
                shutil.rmtree(other)

    def append_metrics(self, line: Mapping[str, Any]) -> None:
        """One JSON line."""
        with self._metrics.open("a") as file:
            file.write(json.dumps(line) + "\n")

    @property
    def metrics_bytes(self) -> int:
        return self._metrics.stat().st_size if self._metrics.exists() else 0

    def save_weights(self, name: str, kind: str, weights: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """`best` or `last` weights of one student, readable by `load_weights`, and a small JSON beside them."""
        # Cloned, because safetensors refuses tied weights, which share memory.
        tensors = {key: tensor.detach().cpu().clone().contiguous() for key, tensor in weights.items()}
        files = {f"{name}/{kind}.safetensors": save(tensors), f"{name}/{kind}.json": _json(facts)}
        write_files(self.root, files)

    def load_weights(self, name: str) -> dict[str, Tensor]:
        """The last weights of a student that stopped early."""
        weights: dict[str, Tensor] = load((self.root / name / "last.safetensors").read_bytes())
        return weights

    def finish(self, results: Sequence[StudentResult]) -> None:
        """Write the final table and drop what only an interrupted run needs."""
        write_files(self.root, {SUMMARY: msgspec.json.format(msgspec.json.encode(results))})
        shutil.rmtree(self.root / RESUME, ignore_errors=True)


def _is_free(root: Path) -> bool:
    """Whether a run may begin here: an empty folder, or one where a run was killed while it wrote its first file."""
    return root.is_dir() and all(path.suffix == TEMPORARY_SUFFIX for path in root.iterdir())


def _check_same_run(root: Path, found: dict[str, Any], run: dict[str, Any]) -> None:
    changed = differences(found, run)
    if changed:
        raise StoreMismatch(
            f"{root}: holds a run that was begun differently: {'; '.join(changed)}. "
            f"Repeat the first command to go on with it, choose another `out`, or say `log.resume = no` to remove it."
        )


def _sync(path: Path) -> None:
    """A position must not tell of metrics that a power cut takes away."""
    if path.exists():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _step_folder(step: int) -> str:
    return f"{RESUME}/step-{step:08d}"


def _json(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, indent=1).encode() + b"\n"

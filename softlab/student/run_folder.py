"""What a training run leaves on disk, and how a killed one goes on.

OUT/run.json                     what this run is; a resumed one must be the same
OUT/metrics.jsonl                one line a student and epoch
OUT/NAME/best.safetensors, .json the weights of the best validation epoch, and how good they were
OUT/NAME/last.safetensors, .json the weights after the last step
OUT/summary.json                 the final table; written last, so its presence means that the run is finished
OUT/resume/                      the last two checkpoints, see checkpoints.py
OUT/resume/lock                  held by the process that trains
"""

import errno
import json
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
from torch import Tensor

from softlab.amounts import format_duration
from softlab.disk import disk_errors, is_temporary, list_files, sweep_temporaries
from softlab.errors import DamagedCheckpoint, DamagedStore, StoreError, StoreExists, StoreMismatch
from softlab.evaluation.evaluation import Evaluation
from softlab.locks import exclusive
from softlab.manifest import differences, tell_differences
from softlab.models.weights import encode_weights, read_weights
from softlab.plain_files import read_if_there
from softlab.ranks import ALONE, Ranks
from softlab.store.files import write_files
from softlab.student.checkpoints import (
    POSITION,
    has_checkpoint,
    newest_whole,
    read_state,
    remove_later,
    write_checkpoint,
)
from softlab.student.growing_file import GrowingFile
from softlab.student.learner import State
from softlab.student.position import Position
from softlab.student.pruning import Sparsity
from softlab.student.trackers import TRACKER_FOLDERS

RUN, SUMMARY, METRICS = "run.json", "summary.json", "metrics.jsonl"
RESUME = "resume"
LOCK_NAME = f"{RESUME}/lock"


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

    def __init__(
        self,
        root: Path,
        run: Mapping[str, Any],
        *,
        about: Mapping[str, Mapping[str, str]] | None = None,
        begin_anew: bool = False,
        ranks: Ranks = ALONE,
    ) -> None:
        """`about` is what each student's weights say of themselves.

        Raises StoreExists for a folder of something else, StoreMismatch for an interrupted run of another kind; one
        that has no checkpoint yet is begun anew, and with `begin_anew` any run."""
        self.root, self._ranks = root, ranks
        self._about = about or {}
        self._metrics = root / METRICS
        self._growing = GrowingFile(self._metrics)
        if ranks.is_first:
            with disk_errors(root):
                if begin_anew:
                    self._remove_run()
                self._begin(run)
        ranks.wait()

    def _remove_run(self) -> None:
        """What a run here has written, run.json last, by which the same command knows it again where something can't be
        removed; nothing in a folder of something else."""
        record = self.root / RUN
        if not record.exists():
            return
        students = _students_of(self.root)
        _sweep_half_written(self.root)
        for path in (self.root / name for name in (SUMMARY, METRICS, f"{RESUME}/{POSITION}")):
            path.unlink(missing_ok=True)
        remove_later(self.root / RESUME, -1)
        for name in (*students, *TRACKER_FOLDERS):
            _remove_folder(self.root / Path(name).name)
        record.unlink()

    def _begin(self, run: Mapping[str, Any]) -> None:
        root = self.root
        is_run = (root / RUN).exists()
        if is_run and (has_checkpoint(root / RESUME) or (root / SUMMARY).exists()):
            _check_same_run(root, _read_record(root), json.loads(_json(run)))
        elif not is_run and root.exists() and not _is_free(root):
            raise StoreExists(f"{root}: already holds something that is not a training run. Choose another `out`.")
        else:
            write_files(root, {RUN: _json(run)})

    def results(self) -> list[StudentResult] | None:
        """Of a finished run."""
        path = self.root / SUMMARY
        data = _read(path)
        try:
            return None if data is None else msgspec.json.decode(data, type=list[StudentResult])
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise _damaged(path, error) from error

    def position(self) -> Position | None:
        """Where an interrupted run goes on; metrics written after that point, and half-written files, are removed."""
        position = self._find_position()
        self._ranks.wait()  # all have read the checkpoints
        if self._ranks.is_first:
            with disk_errors(self.root):
                self._remove_what_came_after(position)
        self._ranks.wait()
        return position

    def _find_position(self) -> Position | None:
        with warnings.catch_warnings():
            if not self._ranks.is_first:
                warnings.simplefilter("ignore", DamagedCheckpoint)  # one tells
            with disk_errors(self.root):
                return newest_whole(self.root / RESUME, metrics=self._metrics)

    def _remove_what_came_after(self, position: Position | None) -> None:
        _sweep_half_written(self.root)
        remove_later(self.root / RESUME, -1 if position is None else position.step)
        if position is None:
            self._metrics.unlink(missing_ok=True)
            return
        with self._metrics.open("ab") as file:
            file.truncate(position.metrics_bytes)

    def load_state(self, position: Position, name: str) -> State:
        """One student's state at that position."""
        return read_state(self.root / RESUME, position.step, name)

    def save_state(self, states: Mapping[str, State], position: Position) -> None:
        """All students' states at one step; of those of earlier steps the last is kept. Raises StoreWriteFailed."""
        with disk_errors(self.root):
            _sync(self._metrics)
        write_checkpoint(self.root / RESUME, states, position, metrics=self._growing)

    def append_metrics(self, line: Mapping[str, Any]) -> None:
        """One JSON line. Raises StoreWriteFailed."""
        with disk_errors(self.root), self._metrics.open("a") as file:
            file.write(json.dumps(line) + "\n")

    @property
    def metrics_bytes(self) -> int:
        """Raises StoreWriteFailed."""
        with disk_errors(self.root):
            return self._metrics.stat().st_size if self._metrics.exists() else 0

    def save_weights(self, name: str, kind: str, weights: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """`best` or `last` weights of one student, readable by `load_weights`, and a small JSON beside them."""
        # Cloned, because safetensors refuses tied weights, which share memory.
        tensors = {key: tensor.detach().cpu().clone().contiguous() for key, tensor in weights.items()}
        files = {
            f"{name}/{kind}.safetensors": encode_weights(tensors, metadata=self._about.get(name)),
            f"{name}/{kind}.json": _json(facts),
        }
        write_files(self.root, files)

    def load_weights(self, name: str) -> dict[str, Tensor]:
        """The last weights of a student that stopped early."""
        return read_weights(self.root / name / "last.safetensors")

    def finish(self, results: Sequence[StudentResult]) -> None:
        """Write the final table and drop what only an interrupted run needs."""
        write_files(self.root, {SUMMARY: msgspec.json.format(msgspec.json.encode(results))})
        shutil.rmtree(self.root / RESUME, ignore_errors=True)


def _is_free(root: Path) -> bool:
    """Whether a run may begin here: an empty folder, or one where a run was killed while it wrote its first file."""
    return root.is_dir() and all(is_temporary(path) or path == LOCK_NAME for path in list_files(root))


@contextmanager
def holding(root: Path, *, ranks: Ranks = ALONE) -> Iterator[None]:
    """Keep others from training into this folder meanwhile. Raises StoreBusy where one is at it already."""
    with disk_errors(root):
        is_run = not root.exists() or _is_free(root) or (root / RUN).exists()
    if not ranks.is_first or not is_run:
        yield  # a folder of something else is refused before anything is written to it
        return
    with exclusive(root / LOCK_NAME, what="training run"):
        try:
            yield
        finally:
            with suppress(OSError):  # the run itself is over
                if (root / SUMMARY).exists():
                    shutil.rmtree(root / RESUME, ignore_errors=True)


def _sweep_half_written(root: Path) -> None:
    """What a process that was killed left: files, and checkpoints, of which some files may be whole."""
    sweep_temporaries(root)
    for half in (root / RESUME).glob("step-*"):
        if is_temporary(half.name):
            shutil.rmtree(half)


def _remove_folder(path: Path) -> None:
    """With all that it holds, if it is there; of a link to a folder the link."""
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def _students_of(root: Path) -> list[str]:
    """Names of a run's students, also where its record is damaged."""
    try:
        return list(_read_record(root)["students"])
    except (StoreError, KeyError, TypeError):
        return sorted({path.parent.name for kind in ("best", "last") for path in root.glob(f"*/{kind}.safetensors")})


def _read_record(root: Path) -> dict[str, Any]:
    data = _read(root / RUN)
    try:
        record: dict[str, Any] = msgspec.json.decode(b"" if data is None else data, type=dict)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _damaged(root / RUN, error) from error
    return record


def _read(path: Path) -> bytes | None:
    """None where there is no such file. Raises DamagedStore for what is no plain file, StoreWriteFailed where the disk
    refuses."""
    with disk_errors(path.parent):
        try:
            return read_if_there(path)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.EFBIG):
                raise
            raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> DamagedStore:
    return DamagedStore(
        f"{path}: is damaged ({error}). Get that file back from a copy, choose another `out`, or say "
        f"`log.resume = no` to begin anew."
    )


def _check_same_run(root: Path, found: dict[str, Any], run: dict[str, Any]) -> None:
    changed = differences(found, run)
    if changed:
        raise StoreMismatch(
            f"{root}: holds a run that was begun differently: {tell_differences(changed)}. "
            f"Repeat the first command to go on with it, choose another `out`, or say `log.resume = no` to remove it."
        )


def _sync(path: Path) -> None:
    """A position must not tell of metrics that a power cut takes away."""
    if path.exists():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _json(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, indent=1).encode() + b"\n"

"""The checkpoints of a training run: the last two, each vouched for by hashes of all that it is.

RESUME/step-N/NAME.safetensors   weights, optimizer and projectors of a student at step N
RESUME/step-N/position.json      how far the run was then; BLAKE3 of the files beside it, of the metrics until then and,
                                 as `blake3`, of its own text without that
RESUME/position.json             a copy of the newest one, for those who look on

A folder of this name is whole: it is written under another, and renamed.
"""

import errno
import os
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path

import msgspec
from safetensors.torch import load, save

from softlab.disk import disk_errors, temporary_name, write_whole
from softlab.errors import DamagedCheckpoint, DamagedStore
from softlab.identity import digest_of
from softlab.plain_files import read_plain
from softlab.student.growing_file import GrowingFile
from softlab.student.learner import State
from softlab.student.position import Position

KEPT = 2
POSITION = "position.json"
MAX_STATE_BYTES = 64 << 30
"""Of one student's weights, optimizer and projectors."""


PASSING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR)
"""Errors that say nothing of a file: a run that took it for damaged would lose a checkpoint."""


class Written(Position, frozen=True, kw_only=True):
    """A position as it stands in a file."""

    files: dict[str, str]
    """BLAKE3 of each file beside it, by name."""

    metrics_blake3: str
    """Of the first `metrics_bytes` of the metrics."""

    blake3: str = ""
    """Of this very record, with nothing here."""

    @property
    def position(self) -> Position:
        return Position(**{name: getattr(self, name) for name in Position.__struct_fields__})


class _Damaged(Exception):
    """What is wrong with a checkpoint, in words."""


def write_checkpoint(folder: Path, states: Mapping[str, State], position: Position, *, metrics: GrowingFile) -> None:
    """All students' states at one step, in the folder of a run's checkpoints. The one before it stays. Raises
    StoreWriteFailed."""
    data = {f"{name}.safetensors": save(state) for name, state in states.items()}
    with disk_errors(folder.parent):
        metrics_blake3 = metrics.digest_until(position.metrics_bytes)
    written = Written(
        **{name: getattr(position, name) for name in Position.__struct_fields__},
        files={name: digest_of(each) for name, each in data.items()},
        metrics_blake3=metrics_blake3,
    )
    text = msgspec.json.encode(msgspec.structs.replace(written, blake3=_digest(written)))
    target = folder / _name(position.step)
    half = target.with_name(temporary_name(target.name))
    with disk_errors(folder.parent):
        write_whole(half, {**data, POSITION: text})
        shutil.rmtree(target, ignore_errors=True)  # of a run that went on from the one before it
        os.rename(half, target)
        write_whole(folder, {POSITION: text})
        for old in _steps(folder)[KEPT:]:
            shutil.rmtree(old, ignore_errors=True)


def has_checkpoint(folder: Path) -> bool:
    return bool(_steps(folder))


def newest_whole(folder: Path, *, metrics: Path) -> Position | None:
    """The position of the newest checkpoint that is what was written; None where there is none at all. Warns with
    DamagedCheckpoint where a newer one isn't, and raises DamagedStore where none is."""
    found: list[str] = []
    for step in _steps(folder):
        try:
            position = _read_checked(step, metrics=metrics).position
        except _Damaged as damage:
            found.append(str(damage))
            continue
        if found:
            warnings.warn(
                f"{found[0]} The run goes on from the checkpoint before, step {position.step:,}.",
                DamagedCheckpoint,
                stacklevel=4,
            )
        return position
    if found:
        raise DamagedStore(
            f"{found[0]} No whole checkpoint is left to go on from. Get that file back from a copy, choose another "
            f"`out`, or say `log.resume = no` to begin anew."
        )
    return None


def read_state(folder: Path, step: int, name: str) -> State:
    """One student's state. Raises DamagedStore, and StoreWriteFailed where the disk refuses."""
    path = folder / _name(step)
    try:
        with disk_errors(folder.parent):
            written = _read_position(path / POSITION)
            state: State = load(_read_hashed(path / f"{name}.safetensors", written.files.get(f"{name}.safetensors")))
    except _Damaged as damage:
        raise DamagedStore(f"{damage} Run the same command again to go on from the checkpoint before.") from None
    return state


def remove_later(folder: Path, step: int) -> None:
    """Checkpoints after that of one step, which were found damaged."""
    for path in _steps(folder):
        if path.name > _name(step):
            shutil.rmtree(path, ignore_errors=True)


def _read_checked(step: Path, *, metrics: Path) -> Written:
    written = _read_position(step / POSITION)
    for name, expected in written.files.items():
        _read_hashed(step / name, expected)
    growing = GrowingFile(metrics)
    try:
        metrics_blake3 = growing.digest_until(written.metrics_bytes)
    except OSError as error:
        if error.errno in PASSING:
            raise
        raise _Damaged(f"{metrics}: can't be read: {error.strerror}.") from None
    if metrics_blake3 != written.metrics_blake3 or growing.num_hashed < written.metrics_bytes:
        raise _Damaged(f"{metrics}: its first {written.metrics_bytes:,} bytes are not those that were written.")
    return written


def _read_position(path: Path) -> Written:
    data = _read(path)
    try:
        written = msgspec.json.decode(data, type=Written)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _Damaged(f"{path}: is damaged ({error}).") from None
    if _digest(written) != written.blake3 or msgspec.json.encode(written) != data:
        raise _Damaged(f"{path}: is damaged: it says something else than what was written.")
    return written


def _read_hashed(path: Path, expected: str | None) -> bytes:
    data = _read(path)
    if digest_of(data) != expected:
        raise _Damaged(f"{path}: is damaged: its {len(data):,} bytes are not those that were written.")
    return data


def _read(path: Path) -> bytes:
    try:
        return read_plain(path, max_bytes=MAX_STATE_BYTES)
    except FileNotFoundError:
        raise _Damaged(f"{path}: is missing.") from None
    except OSError as error:
        if error.errno in PASSING:
            raise
        raise _Damaged(f"{path}: can't be read: {error.strerror}.") from None


def _digest(written: Written) -> str:
    return digest_of(msgspec.json.encode(msgspec.structs.replace(written, blake3="")))


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _steps(folder: Path) -> list[Path]:
    """The newest first."""
    return sorted((path for path in folder.glob("step-*") if path.name[5:].isdigit()), reverse=True)

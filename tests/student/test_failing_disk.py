"""A disk that refuses while a run trains: curves are given up, what the run needs ends it with one line."""

import errno
import io
import itertools
import os
import shutil
import warnings
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from softlab.disk import write_whole
from softlab.errors import DamagedCheckpoint, SoftlabError, StoreBusy, StoreWriteFailed, TrackerFailed
from softlab.store.reader import Store
from softlab.student.run_folder import RunFolder, holding
from softlab.student.trackers import TensorBoardTracker
from tests.student import pictures
from tests.student.fashion import make_student, metrics, same_weights, train
from tests.student.two_ranks import make_two

REFUSALS = pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EMFILE])


def refuse(number: int) -> Any:
    def refused(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return refused


@REFUSALS
@pytest.mark.parametrize("call", ["__init__", "log", "finish"])
def test_a_tracker_that_fails_is_set_aside_with_one_note(
    full_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, call: str
) -> None:
    monkeypatch.setattr(TensorBoardTracker, call, refuse(number))
    expected, student = make_student(), make_student()
    train(expected, full_store)

    with pytest.warns(TrackerFailed, match=f"tensorboard fails .*{os.strerror(number)}") as noted:
        train(student, full_store, out=tmp_path, track=("tensorboard",))

    assert len(noted) == 1
    assert same_weights(student, expected)
    assert len(metrics(tmp_path)) == 2


def test_a_disk_that_fails_in_tensorboards_own_thread_is_told_once(
    full_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]

    monkeypatch.setattr(RecordWriter, "write", refuse(errno.ENOSPC))

    with pytest.warns(TrackerFailed, match="No space left on device") as noted:
        train(make_student(), full_store, out=tmp_path, track=("tensorboard",))

    assert len(noted) == 1


@REFUSALS
def test_a_checkpoint_that_can_t_be_written_ends_the_run_and_leaves_the_one_before(
    full_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    expected, student = make_student(), make_student()
    train(expected, full_store)
    calls: list[object] = []

    def write_once(*arguments: Any) -> None:
        calls.append(arguments)
        refuse(number)() if len(calls) > 2 else write_whole(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr("softlab.student.checkpoints.write_whole", write_once)
        with pytest.raises(StoreWriteFailed, match=f"{os.strerror(number)}.*run the same command again to go on"):
            train(make_student(), full_store, out=tmp_path)
    steps: list[int] = []
    train(student, full_store, out=tmp_path, on_progress=lambda progress: steps.append(progress.step))

    assert steps[0] == 7
    assert same_weights(student, expected)


@REFUSALS
def test_metrics_that_can_t_be_written_end_the_run_whoever_else_learns(
    full_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse(number))
        folder = RunFolder.__new__(RunFolder)
        folder.root, folder._metrics = tmp_path, tmp_path / "metrics.jsonl"
        with pytest.raises(StoreWriteFailed, match=os.strerror(number)):
            folder.append_metrics({"epoch": 1})


def test_a_second_trainer_into_the_same_folder_is_refused(full_store: Store, tmp_path: Path) -> None:
    with holding(tmp_path), pytest.raises(StoreBusy, match="another process is writing this training run"):
        train(make_student(), full_store, out=tmp_path)

    train(make_student(), full_store, out=tmp_path)
    assert len(metrics(tmp_path)) == 2


CALLS: dict[str, tuple[tuple[Any, str], ...]] = {
    "stat": ((os, "stat"), (os, "lstat")),
    "open": ((os, "open"), (io, "open")),
    "rename": ((os, "replace"), (os, "rename")),
    "mkdir": ((os, "mkdir"),),
    "unlink": ((os, "unlink"), (os, "rmdir")),
    "list": ((os, "scandir"), (os, "listdir")),
    "fsync": ((os, "fsync"),),
}
"""Of which a run makes some below its folder."""


class Refusing:
    """Of the calls of one kind on files below a folder, refuses one."""

    def __init__(self, folder: Path, *, at: int | None, number: int) -> None:
        self.folder, self.at, self.number = str(folder), at, number
        self.count = 0

    def patch(self, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
        for place, name in CALLS[kind]:
            monkeypatch.setattr(place, name, partial(self._call, getattr(place, name)))

    def _call(self, real: Any, *given: Any, **more: Any) -> Any:
        if given and self._is_below(given[0]):
            self.count += 1
            if self.count == self.at:
                raise OSError(self.number, os.strerror(self.number), os.fspath(self.folder))
        return real(*given, **more)

    def _is_below(self, path: Any) -> bool:
        if isinstance(path, int):
            path = os.readlink(f"/proc/self/fd/{path}")
        return os.fsdecode(path).startswith(self.folder)


def begin(out: Path, store: Store) -> None:
    """A run that was stopped after its second checkpoint."""
    with pytest.raises(KeyboardInterrupt):
        pictures.train(make_two(), store, out=out, on_progress=pictures.stop_at(5), checkpoint_steps=2)


@pytest.mark.parametrize("begins", ["anew", "again"])
@pytest.mark.parametrize(
    "kind",
    [each if each in ("list", "unlink") else pytest.param(each, marks=pytest.mark.slow) for each in CALLS],
)
def test_whichever_call_fails_the_run_ends_with_an_error_of_ours_and_then_goes_on(
    tmp_path: Path, kind: str, begins: str
) -> None:
    store = pictures.make_store(tmp_path / "store", pixel_digests="none")
    expected, numbers = make_two(), itertools.cycle([errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.EINTR])
    pictures.train(expected, store)
    begin(tmp_path / "begun", store)
    for at, number in zip(itertools.count(1), numbers, strict=False):
        out, students = tmp_path / "out", make_two()
        shutil.rmtree(out, ignore_errors=True)
        if begins == "again":
            shutil.copytree(tmp_path / "begun", out)
        refusing = Refusing(out, at=at, number=number)
        with pytest.MonkeyPatch.context() as patch:
            refusing.patch(patch, kind)
            with suppress(SoftlabError), warnings.catch_warnings():
                warnings.simplefilter("ignore", DamagedCheckpoint)  # for the one before it is gone on with
                pictures.train(students, store, out=out, checkpoint_steps=2)
        if refusing.count < at:
            break
        students = make_two()
        pictures.train(students, store, out=out, checkpoint_steps=2)
        for name in students:
            weights = load_file(out / name / "last.safetensors")
            assert all(weights[key].equal(tensor) for key, tensor in expected[name].state_dict().items())
    assert at > 1

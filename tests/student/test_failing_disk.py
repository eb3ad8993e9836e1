"""A disk that refuses while a run trains: curves are given up, what the run needs ends it with one line."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from softlab.disk import write_whole
from softlab.errors import StoreBusy, StoreWriteFailed, TrackerFailed
from softlab.store.reader import Store
from softlab.student.run_folder import RunFolder, holding
from tests.student.fashion import make_student, metrics, same_weights, train

REFUSALS = pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EMFILE])


def refuse(number: int) -> Any:
    def refused(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return refused


@REFUSALS
@pytest.mark.parametrize("call", ["start", "log", "finish"])
def test_a_tracker_that_fails_is_set_aside_with_one_note(
    full_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, call: str
) -> None:
    from accelerate.tracking import TensorBoardTracker

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

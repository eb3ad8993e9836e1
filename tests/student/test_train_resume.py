"""Runs that were interrupted, by Ctrl-C or by the system, go on to exactly what an undisturbed run gives."""

import signal
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from softlab.disk import list_files
from softlab.errors import StoreMismatch
from softlab.store.cache import CacheOptions
from softlab.store.reader import Store, open_store
from softlab.student.loop import OnProgress, TrainProgress
from tests.forks import FORKS
from tests.student.fashion import all_but_seconds, make_student, metrics, same_weights, train

# Ctrl-C.


def stop_at(step: int) -> OnProgress:
    """A Ctrl-C after so many steps."""

    def on_progress(progress: TrainProgress) -> None:
        if progress.step == step:
            raise KeyboardInterrupt

    return on_progress


def no_step(progress: TrainProgress) -> None:
    raise AssertionError("nothing should be trained")


def test_a_finished_run_returns_its_results_without_training(full_store: Store, tmp_path: Path) -> None:
    expected = train(make_student(), full_store, valid=True, out=tmp_path)
    student = make_student()

    assert train(student, full_store, valid=True, out=tmp_path, on_progress=no_step) == expected
    assert same_weights(student, make_student())


def test_an_interrupted_run_says_how_to_go_on(full_store: Store, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt, match="Run the same command again to go on from the last checkpoint"):
        train(make_student(), full_store, out=tmp_path / "run", on_progress=stop_at(3))


@pytest.mark.parametrize("stop", [1, 4, 6, 7, 11, 12])
@pytest.mark.parametrize("checkpoint_steps", [None, 4])
def test_an_interrupted_run_goes_on_to_the_same_bits(
    narrow_store: Store, tmp_path: Path, stop: int, checkpoint_steps: int | None
) -> None:
    expected = make_student(dropout=0.5)
    (whole,) = train(expected, narrow_store, valid=True, out=tmp_path / "whole")
    run: dict[str, Any] = {"valid": True, "out": tmp_path / "run", "checkpoint_steps": checkpoint_steps}

    with pytest.raises(KeyboardInterrupt):
        train(make_student(dropout=0.5), narrow_store, on_progress=stop_at(stop), **run)
    student = make_student(dropout=0.5)
    steps: list[int] = []
    (result,) = train(student, narrow_store, on_progress=lambda progress: steps.append(progress.step), **run)

    assert steps == list(range(last_checkpoint(stop, every=checkpoint_steps or 6) + 1, 13))
    assert same_weights(student, expected)
    assert metrics(tmp_path / "run") == metrics(tmp_path / "whole")
    assert all_but_seconds(result) == all_but_seconds(whole)


def last_checkpoint(stop: int, *, every: int) -> int:
    return stop // every * every


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"learning_rate": 2e-3}, "learning_rate"),
        ({"seed": 1}, "seed"),
        ({"epochs": 3}, "epochs"),
        ({"alpha": 0.5}, "alpha"),
        ({"valid": False}, "valid"),
        ({"best_by": "calibration_error"}, "best_by"),
    ],
)
def test_an_interrupted_run_goes_on_only_with_the_same_options(
    full_store: Store, tmp_path: Path, changed: dict[str, Any], named: str
) -> None:
    run: dict[str, Any] = {"valid": True, "out": tmp_path / "run"}
    with pytest.raises(KeyboardInterrupt):
        train(make_student(), full_store, on_progress=stop_at(7), **run)

    with pytest.raises(StoreMismatch, match=f"{named}.*Repeat the first command to go on with it"):
        train(make_student(), full_store, on_progress=no_step, **(run | changed))


def test_an_interrupted_run_goes_on_only_with_the_same_students_and_store(
    full_store: Store, narrow_store: Store, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(make_student(), full_store, out=tmp_path / "run", on_progress=stop_at(7))

    for students, store, named in [
        ({"small": make_student(seed=1)}, full_store, "initial_weights"),
        ({"small": make_student(), "other": make_student()}, full_store, "other"),
        ({"small": make_student()}, narrow_store, "stores"),
        ({"small": make_student()}, None, "stores"),
    ]:
        with pytest.raises(StoreMismatch, match=f"{named}.*Repeat the first command to go on with it"):
            train(students, store, out=tmp_path / "run", on_progress=no_step)


@pytest.mark.process
def test_what_does_not_change_the_result_may_differ_when_a_run_goes_on(full_store: Store, tmp_path: Path) -> None:
    """Among it the name of the metric that `auto` stands for."""
    expected, student = make_student(), make_student()
    train(expected, full_store)
    run: dict[str, Any] = {"valid": True, "out": tmp_path / "run"}

    with pytest.raises(KeyboardInterrupt):
        train(make_student(), full_store, on_progress=stop_at(7), **run)
    free: dict[str, Any] = {"workers": 2, "verify_inputs": "all", "checkpoint_steps": 5, "best_by": "accuracy"}
    train(student, full_store, **run, **free)

    assert same_weights(student, expected)


@pytest.mark.gpu
def test_on_a_gpu_an_interrupted_run_goes_on_from_its_dropout(full_store: Store, tmp_path: Path) -> None:
    (expected,) = train(make_student(dropout=0.5), full_store, device="cuda")

    with pytest.raises(KeyboardInterrupt):
        train(make_student(dropout=0.5), full_store, device="cuda", out=tmp_path, on_progress=stop_at(7))
    (result,) = train(make_student(dropout=0.5), full_store, device="cuda", out=tmp_path)

    assert result.train_loss == pytest.approx(expected.train_loss, rel=1e-4)


# Kill -9.


def train_to_the_end(store: Path, cache: Path, out: Path) -> None:
    """In a process of its own."""
    torch.set_num_threads(1)
    students = {"small": make_student(dropout=0.5), "other": make_student(seed=1)}
    opened = open_store(store, cache=CacheOptions(dir=cache))
    train(students, opened, valid=True, out=out, baseline=True, epochs=30, checkpoint_steps=4)


def position_in(out: Path) -> bytes:
    path = out / "resume" / "position.json"
    return path.read_bytes() if path.exists() else b""


@pytest.mark.process
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_run_killed_again_and_again_ends_with_the_same_bits(dumped: Path, tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    train_to_the_end(dumped / "narrow", tmp_path / "cache", tmp_path / "whole")

    kills = 0
    while not (tmp_path / "run" / "summary.json").exists():
        before = position_in(tmp_path / "run")
        process = FORKS.Process(target=train_to_the_end, args=(dumped / "narrow", tmp_path / "cache", tmp_path / "run"))
        process.start()
        if kills < 6:
            # Every third is killed at any moment from its start, the others some time after their first checkpoint.
            while kills % 3 and process.is_alive() and position_in(tmp_path / "run") == before:
                time.sleep(0.001)
            time.sleep(random.uniform(0, 0.15))
            process.kill()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        kills += process.exitcode != 0

    assert kills >= 3
    for name in ("small", "other", "small-hard", "other-hard"):
        for kind in ("best", "last"):
            for suffix in ("safetensors", "json"):
                path = Path(name) / f"{kind}.{suffix}"
                assert (tmp_path / "run" / path).read_bytes() == (tmp_path / "whole" / path).read_bytes()
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()
    assert list_files(tmp_path / "run") == list_files(tmp_path / "whole")

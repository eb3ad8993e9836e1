"""Curves that are followed while a run goes on: TensorBoard's, read back by its own reader, and those of wandb."""

import importlib.util
import math
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from softlab.errors import InvalidOption
from softlab.store.reader import Store
from softlab.student.loop import OnProgress
from tests.student.fashion import metrics
from tests.student.pictures import make_student, stop_at, train

# Runs of 3 epochs with 3 steps each.

Curves = dict[str, list[tuple[int, float]]]


def train_two(store: Store, out: Path, *, on_progress: OnProgress | None = None, **options: Any) -> None:
    train(
        {"one": make_student(), "two": make_student(seed=1)},
        store,
        valid=store,
        out=out,
        on_progress=on_progress,
        **({"track": ("tensorboard",)} | options),
    )


def wait_for_the_next_second() -> None:
    """TensorBoard reads the files of one second in the order of their names, of which the tenth comes before the
    ninth."""
    now = time.time()
    time.sleep(math.ceil(now) - now + 0.05)


def read_curves(out: Path) -> Curves:
    """Step and value of each point, by step."""
    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    tags = events.Tags()["scalars"]
    return {tag: sorted((point.step, point.value) for point in events.Scalars(tag)) for tag in tags}


def expected_curves(out: Path) -> Curves:
    """The same from the run's metrics."""
    curves: Curves = {}
    for line in metrics(out):
        measures = {name: line[name] for name in ("train_loss", "learning_rate")}
        measures |= line["valid"]["values"]
        for measure, value in measures.items():
            curves.setdefault(f"{measure}/{line['student']}", []).append((line["step"], value))
    return curves


def assert_same_curves(found: Curves, expected: Curves) -> None:
    """TensorBoard keeps float32."""
    assert found.keys() == expected.keys()
    for tag, points in expected.items():
        assert [step for step, _ in found[tag]] == [step for step, _ in points]
        assert [value for _, value in found[tag]] == pytest.approx([value for _, value in points], rel=1e-6, abs=1e-9)


# TensorBoard.


def test_a_run_with_a_folder_has_the_curves_of_all_students_side_by_side(first: Store, tmp_path: Path) -> None:
    train_two(first, tmp_path)

    curves = read_curves(tmp_path)
    assert_same_curves(curves, expected_curves(tmp_path))
    assert {"accuracy/one", "accuracy/two", "train_loss/one", "teacher_kl/two"} <= curves.keys()
    assert [step for step, _ in curves["accuracy/one"]] == [3, 6, 9]


@pytest.mark.parametrize(
    ("stop", "checkpoint_steps"),
    [
        (2, None),  # before the first checkpoint: the run is begun anew
        (4, None),
        (7, 4),  # the point of step 6 came after the last checkpoint, and comes again
        (8, 5),
    ],
)
def test_a_run_that_goes_on_continues_its_curves_without_doubled_points(
    first: Store, tmp_path: Path, stop: int, checkpoint_steps: int | None
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_two(first, tmp_path, on_progress=stop_at(stop), checkpoint_steps=checkpoint_steps)
    wait_for_the_next_second()
    train_two(first, tmp_path, checkpoint_steps=checkpoint_steps)

    assert_same_curves(read_curves(tmp_path), expected_curves(tmp_path))


def test_a_finished_run_adds_nothing_to_its_curves(first: Store, tmp_path: Path) -> None:
    train_two(first, tmp_path)
    files = list((tmp_path / "tensorboard").iterdir())

    train_two(first, tmp_path)

    assert list((tmp_path / "tensorboard").iterdir()) == files


def test_a_run_that_is_not_to_be_followed_writes_no_curves(first: Store, tmp_path: Path) -> None:
    train_two(first, tmp_path, track=())

    assert not (tmp_path / "tensorboard").exists()


def test_a_run_may_be_followed_otherwise_when_it_goes_on(first: Store, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_two(first, tmp_path, on_progress=stop_at(4), track=())
    train_two(first, tmp_path)

    assert [step for step, _ in read_curves(tmp_path)["train_loss/one"]] == [6, 9]


# Weights & Biases, offline.

needs_wandb = pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="wandb isn't installed")


@pytest.fixture
def _offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever tries to reach a server would reach a socket here, and is found waiting at it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        for name in ["WANDB_BASE_URL", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"]:
            monkeypatch.setenv(name, address)
        monkeypatch.setenv("WANDB_MODE", "offline")
        monkeypatch.setenv("WANDB_SILENT", "true")
        yield
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


def offline_runs(out: Path) -> list[Path]:
    """Files of a run's curves, the first part first."""
    return sorted(out.glob("wandb/offline-run-*/run-*.wandb"))


@pytest.mark.process
@needs_wandb
@pytest.mark.usefixtures("_offline")
def test_curves_for_wandb_are_written_beside_the_run_and_nothing_is_sent(first: Store, tmp_path: Path) -> None:
    train_two(first, tmp_path, track=("wandb", "tensorboard"))

    (file,) = offline_runs(tmp_path)
    tags = read_curves(tmp_path).keys()
    assert all(tag.encode() in file.read_bytes() for tag in tags)


@pytest.mark.process
@needs_wandb
@pytest.mark.usefixtures("_offline")
def test_a_run_that_goes_on_is_the_same_one_for_wandb_and_one_begun_anew_is_another(
    first: Store, tmp_path: Path
) -> None:
    ids = []
    for stop in (2, 4):  # before and after the first checkpoint
        with pytest.raises(KeyboardInterrupt):
            train_two(first, tmp_path, on_progress=stop_at(stop), track=("wandb",))
        ids.append((tmp_path / "wandb/id").read_text())
    train_two(first, tmp_path, track=("wandb",))
    ids.append((tmp_path / "wandb/id").read_text())

    assert ids[0] != ids[1] == ids[2]
    assert {file.stem for file in offline_runs(tmp_path)} == {f"run-{each}" for each in ids}


def test_wandb_that_is_not_installed_is_an_error_before_the_first_step(
    first: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)

    with pytest.raises(InvalidOption) as caught:
        train_two(first, tmp_path, track=("wandb",))

    assert str(caught.value) == "log.track = wandb: wandb is not installed. Run pip install 'softlab[wandb]'."
    assert not (tmp_path / "metrics.jsonl").exists()

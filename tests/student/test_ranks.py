"""A run shared by two real processes, on the CPU through gloo, against the same run in one."""

import json
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from softlab.errors import InvalidOption
from softlab.indices import SourceIndex
from softlab.loading.order import RowIndices, ShuffledBatches
from softlab.ranks import ALONE, Ranks, is_first_rank
from softlab.store.cache import CacheOptions
from softlab.store.reader import Store, open_store
from softlab.student.collectives import check_batch_size, copy_first_rank, join_training, mean_of_ranks, own_rows
from softlab.student.run_folder import StudentResult
from tests.ranks import started, wait_for_end
from tests.student.fashion import metrics
from tests.student.pictures import FEATURES, NUM_PICTURES, make_store, stop_at, train
from tests.student.two_ranks import KILLED, RUNS, do_all, make_two

pytestmark = pytest.mark.process


# One process among several.


def rows(*samples: int) -> RowIndices:
    return RowIndices(SourceIndex(np.array(samples)), np.array(samples) + 100)


def test_a_batch_falls_into_parts_that_make_up_the_whole() -> None:
    batch = rows(5, 3, 8, 1, 9, 2)

    parts = [own_rows(batch, Ranks(rank=rank, count=3)) for rank in range(3)]

    assert [part.source_B.tolist() for part in parts] == [[5, 3], [8, 1], [9, 2]]
    assert [part.views_B.tolist() for part in parts] == [[105, 103], [108, 101], [109, 102]]


def test_alone_there_is_nothing_to_share() -> None:
    batch, value = rows(5, 3, 8), torch.tensor(3.0)

    assert own_rows(batch, ALONE) is batch
    assert mean_of_ranks(value, ALONE) is value
    assert ALONE.is_first
    check_batch_size(7, ALONE)
    copy_first_rank([value], ALONE)
    ALONE.wait()


def test_a_batch_that_does_not_fall_into_equal_parts_is_refused() -> None:
    ranks = Ranks(rank=0, count=3)

    check_batch_size(6, ranks)
    with pytest.raises(InvalidOption, match=r"run\.batch_size = 8: 3 processes .* multiple of 3 as `run\.batch_size`"):
        check_batch_size(8, ranks)


@pytest.mark.parametrize("environment", [{}, {"WORLD_SIZE": "1", "RANK": "0"}])
def test_a_process_of_its_own_joins_no_others(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name in ("WORLD_SIZE", "RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert join_training(torch.device("cpu")).count == 1
    assert is_first_rank()


# Two processes.


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What both processes of `two_ranks.py` leave; the last of its runs kills them."""
    folder = tmp_path_factory.mktemp("ranks")
    make_store(folder / "store", feature=FEATURES, pixel_digests="none")
    options = RUNS["begun_by_one"].options
    with pytest.raises(KeyboardInterrupt):
        train(make_two(), store_in(folder), out=folder / "begun_by_one" / "out", on_progress=stop_at(5), **options)
    with started(2, do_all, folder) as processes:
        codes = wait_for_end(processes)
    assert -signal.SIGKILL in codes
    assert (folder / KILLED / "out" / "run.json").exists()
    return folder


def store_in(folder: Path) -> Store:
    return open_store(folder / "store", cache=CacheOptions(dir=folder / "cache"))


def left_by(shared: Path, name: str, *, rank: int) -> dict[str, Any]:
    left: dict[str, Any] = json.loads((shared / name / f"rank-{rank}.json").read_text())
    return left


def results_of(shared: Path, name: str, *, rank: int) -> list[StudentResult]:
    return msgspec.convert(left_by(shared, name, rank=rank)["results"], list[StudentResult])


def weights_of(shared: Path, name: str, *, rank: int, student: str = "small") -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = load_file(shared / name / f"rank-{rank}-{student}.safetensors")
    return weights


def run_alone(shared: Path, name: str, **others: Any) -> tuple[dict[str, nn.Module], list[StudentResult]]:
    students = RUNS[name].make()
    return students, train(students, store_in(shared), **(dict(RUNS[name].options) | others))


def assert_close(found: StudentResult, expected: StudentResult) -> None:
    assert (found.name, found.error) == (expected.name, expected.error)
    assert found.train_loss == pytest.approx(expected.train_loss, rel=1e-4)
    if expected.last is not None:
        assert found.last is not None
        assert found.last.values["accuracy"] == expected.last.values["accuracy"]


@pytest.mark.parametrize("name", ["plain", "all_options", "validated", "own_weights", "heads"])
def test_two_processes_learn_what_one_learns(shared: Path, name: str) -> None:
    students, expected = run_alone(shared, name)

    for rank in (0, 1):
        for student, module in students.items():
            weights = weights_of(shared, name, rank=rank, student=student)
            torch.testing.assert_close(weights, dict(module.state_dict()), rtol=1e-4, atol=1e-5)
        for found, result in zip(results_of(shared, name, rank=rank), expected, strict=True):
            assert_close(found, result)


@pytest.mark.parametrize("name", ["plain", "all_options", "validated", "normalised", "own_weights", "heads"])
def test_both_processes_end_with_the_same_bits(shared: Path, name: str) -> None:
    for student in RUNS[name].make():
        first, second = (weights_of(shared, name, rank=rank, student=student) for rank in (0, 1))
        assert all(second[key].equal(tensor) for key, tensor in first.items())
    one, other = ([_but_seconds(each) for each in results_of(shared, name, rank=rank)] for rank in (0, 1))
    assert one == other


def _but_seconds(result: StudentResult) -> StudentResult:
    return msgspec.structs.replace(result, seconds=0.0)


def test_dropout_differs_between_the_processes(shared: Path) -> None:
    """Else both halves of a batch would lose the same units."""
    _, (alone,) = run_alone(shared, "normalised")

    (result,) = results_of(shared, "normalised", rank=0)
    assert result.train_loss != pytest.approx(alone.train_loss, rel=1e-3)
    assert result.train_loss == pytest.approx(alone.train_loss, rel=0.5)


def test_each_process_reads_only_its_own_rows(shared: Path) -> None:
    batches = list(ShuffledBatches(num_samples=NUM_PICTURES, batch_size=8, epochs=1, seed=0))

    for rank, half in enumerate([slice(0, 4), slice(4, 8)]):
        own = sorted(number for batch in batches for number in batch.source_B[half].tolist())
        assert left_by(shared, "one_epoch", rank=rank)["seen"] == own


def test_only_the_first_process_writes(shared: Path) -> None:
    assert not (shared / "plain" / "elsewhere").exists()
    assert sorted(path.name for path in (shared / "plain" / "out").iterdir()) == [
        *("metrics.jsonl", "run.json", "small", "summary.json")
    ]
    assert [(line["student"], line["epoch"]) for line in metrics(shared / "validated" / "out")] == [
        (student, epoch) for epoch in (1, 2, 3) for student in ("small", "other")
    ]


def test_a_student_whose_loss_is_no_number_in_one_process_is_set_aside_in_both(shared: Path) -> None:
    students, (expected,) = run_alone(shared, "plain", valid=True)

    for rank in (0, 1):
        good, bad = results_of(shared, "set_aside", rank=rank)
        assert "student bad: its loss is nan by step 6" in (bad.error or "")
        assert_close(good, expected)
        torch.testing.assert_close(
            weights_of(shared, "set_aside", rank=rank), students["small"].state_dict(), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize(("name", "found"), [("odd_batches", 7), ("few_pictures", 5)])
def test_batches_that_do_not_fall_into_equal_parts_are_refused(shared: Path, name: str, found: int) -> None:
    for rank in (0, 1):
        assert left_by(shared, name, rank=rank)["error"] == (
            f"InvalidOption: run.batch_size = {found}: 2 processes share each batch in equal parts. Choose a multiple "
            f"of 2 as `run.batch_size`."
        )


# Going on with another number of processes.


def assert_same_run(students: dict[str, dict[str, torch.Tensor]], results: Sequence[StudentResult], whole: Any) -> None:
    modules, expected = whole
    for name, module in modules.items():
        torch.testing.assert_close(students[name], dict(module.state_dict()), rtol=1e-4, atol=1e-5)
    for found, result in zip(results, expected, strict=True):
        assert_close(found, result)


@pytest.mark.parametrize("name", ["begun_by_two", KILLED])
def test_one_process_goes_on_with_what_two_have_begun(shared: Path, name: str) -> None:
    out = shared / name / "out"
    steps: list[int] = []
    assert json.loads((out / "resume" / "position.json").read_text())["step"] == 4
    students = make_two()

    results = train(
        students,
        store_in(shared),
        out=out,
        on_progress=lambda progress: steps.append(progress.step),
        checkpoint_steps=4,
    )

    assert steps == [5, 6, 7, 8, 9]
    weights = {student: dict(module.state_dict()) for student, module in students.items()}
    assert_same_run(weights, results, run_alone(shared, "begun_by_two"))


def test_two_processes_go_on_with_what_one_has_begun(shared: Path) -> None:
    whole = run_alone(shared, "begun_by_one")

    for rank in (0, 1):
        weights = {name: weights_of(shared, "begun_by_one", rank=rank, student=name) for name in make_two()}
        assert_same_run(weights, results_of(shared, "begun_by_one", rank=rank), whole)
        assert left_by(shared, "begun_by_one", rank=rank)["steps"] == [5, 6, 7, 8, 9]
    assert (shared / "begun_by_one" / "out" / "summary.json").exists()

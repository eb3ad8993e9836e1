"""A student that fails leaves the run; the others go on as if it had never been there."""

import json
import math
from pathlib import Path
from typing import Literal, get_args

import pytest
import torch
from torch import Tensor, nn

from softlab.errors import ModelError, SoftlabError, TrainingFailed
from softlab.store.reader import Store
from softlab.student.options import Student
from softlab.student.pruning import PruneOptions
from softlab.student.run_folder import StudentResult
from tests.student.fashion import all_but_seconds, metrics, same_weights
from tests.student.pictures import make_learn, make_student, train, train_interrupted

Way = Literal["loss", "forward", "memory", "measuring"]

ERRORS: dict[Way, str] = {
    "loss": "TrainingFailed: student bad: its loss is nan by step",
    "forward": "ModelError: the model can't run on inputs of shape [8, 3, 4, 6]: ValueError: a bug",
    "memory": "TrainingFailed: student bad: CUDA out of memory. Tried to allocate 2.00 GiB. Lower "
    "`run.batch_size` (now 8), raise `run.accumulate`, or train fewer students in one pass.",
    "measuring": "ModelError: the model can't run on inputs of shape [8, 3, 4, 6]: ValueError: only in eval mode",
}


class Failing(nn.Module):
    """Learns for some steps, and then fails in one way; it knows its step after a resume too."""

    steps: Tensor

    def __init__(self, way: Way, *, after: int) -> None:
        super().__init__()
        self.layers, self.way, self.after = make_student(seed=1), way, after
        self.register_buffer("steps", torch.tensor(0))

    def forward(self, images_BCHW: Tensor) -> Tensor:
        self.steps += self.training
        logits_BC: Tensor = self.layers(images_BCHW)
        if self.steps <= self.after:
            return logits_BC
        if self.way == "measuring" and not self.training:
            raise ValueError("only in eval mode")
        if self.way == "forward" and self.training:
            raise ValueError("a bug")
        if self.way == "memory" and self.training:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore about it.")
        return logits_BC * math.nan if self.way == "loss" else logits_BC


def make_good() -> dict[str, nn.Module]:
    return {"one": make_student(dropout=0.5), "two": make_student(seed=2)}


def make_all(way: Way, *, after: int) -> dict[str, nn.Module]:
    one, two = make_good().items()
    return dict([one, ("bad", Failing(way, after=after)), two])


def facts(out: Path) -> list[dict[str, object]]:
    return [line for line in metrics(out) if line["student"] != "bad"]


def of(name: str, results: list[StudentResult]) -> StudentResult:
    (result,) = [result for result in results if result.name == name]
    return result


@pytest.mark.parametrize("after", [0, 4])
@pytest.mark.parametrize("way", get_args(Way))
def test_the_others_end_with_the_bits_of_a_run_without_it(first: Store, tmp_path: Path, way: Way, after: int) -> None:
    students, expected = make_all(way, after=after), make_good()

    results = train(students, first, valid=first, out=tmp_path / "run")
    without = train(expected, first, valid=first, out=tmp_path / "without")

    assert [result.name for result in results] == ["one", "bad", "two"]
    for result in without:
        assert all_but_seconds(of(result.name, results)) == all_but_seconds(result)
        assert same_weights(students[result.name], expected[result.name])
    assert facts(tmp_path / "run") == metrics(tmp_path / "without")


def test_its_gradients_take_no_more_memory(first: Store) -> None:
    students = make_all("forward", after=4)

    train(students, first)

    assert all(parameter.grad is None for parameter in students["bad"].parameters())
    assert all(parameter.grad is not None for parameter in students["one"].parameters())


@pytest.mark.parametrize("way", get_args(Way))
def test_its_result_tells_why_and_how_far_it_came(first: Store, tmp_path: Path, way: Way) -> None:
    results = train(make_all(way, after=4), first, valid=first, out=tmp_path)

    bad = of("bad", results)
    lines = [line for line in metrics(tmp_path) if line["student"] == "bad"]
    assert (bad.error or "").startswith(ERRORS[way])
    assert [line["epoch"] for line in lines] == [1]
    assert bad.best is not None
    assert bad.best.values["accuracy"] == lines[0]["valid"]["values"]["accuracy"]
    assert bad.last is None
    assert json.loads((tmp_path / "summary.json").read_text())[1]["error"] == bad.error
    assert [path.name for path in sorted((tmp_path / "bad").iterdir())] == ["best.json", "best.safetensors"]


@pytest.mark.parametrize("after", [1, 6])
@pytest.mark.parametrize("way", get_args(Way))
def test_so_it_is_when_the_run_was_interrupted(first: Store, tmp_path: Path, way: Way, after: int) -> None:
    """It fails before the checkpoint that the run goes on from, or after."""
    expected = make_all(way, after=after)
    whole = train(expected, first, valid=first, out=tmp_path / "whole")

    students, results = train_interrupted(
        lambda: make_all(way, after=after), first, valid=first, out=tmp_path / "interrupted"
    )

    assert [all_but_seconds(result) for result in results] == [all_but_seconds(result) for result in whole]
    assert all(same_weights(_module(students[name]), expected[name]) for name in ("one", "two"))
    assert metrics(tmp_path / "interrupted") == metrics(tmp_path / "whole")


def _module(student: nn.Module | Student) -> nn.Module:
    assert isinstance(student, nn.Module)
    return student


@pytest.mark.parametrize("students", [["bad"], ["worse", "bad"]])
@pytest.mark.parametrize("way", get_args(Way))
def test_if_all_fail_the_last_ones_error_is_raised(first: Store, tmp_path: Path, way: Way, students: list[str]) -> None:
    kind, text = ERRORS[way].split(": ", 1)

    with pytest.raises(SoftlabError) as caught:
        train({name: Failing(way, after=4) for name in students}, first, valid=first, out=tmp_path)

    assert (type(caught.value).__name__, str(caught.value)[: len(text)]) == (kind, text)
    assert not (tmp_path / "summary.json").exists()


def test_without_memory_for_one_batch_the_batch_size_is_named(first: Store) -> None:
    with pytest.raises(TrainingFailed, match=r"CUDA out of memory.*Lower `run\.batch_size` \(now 8\)") as caught:
        train({"bad": Failing("memory", after=0)}, first)

    assert isinstance(caught.value.__cause__, ModelError)


def test_a_pruned_student_that_fails_is_left_with_its_own_names(first: Store) -> None:
    bad = Failing("forward", after=4)
    students: dict[str, nn.Module | Student] = {
        "bad": Student(module=bad, learn=make_learn(prune=PruneOptions(amount=0.5, every_steps=1))),
        "good": make_student(),
    }

    results = train(students, first)

    assert of("bad", results).error is not None
    assert of("bad", results).sparsity is None
    assert bad.state_dict().keys() == Failing("forward", after=4).state_dict().keys()


def test_a_student_that_can_not_run_at_all_is_set_aside_too(first: Store) -> None:
    students = {"bad": nn.Sequential(nn.Flatten(), nn.Linear(7, 5)), "good": make_student()}
    expected = make_student()

    bad, _ = train(students, first)

    train({"good": expected}, first)
    assert "the model can't run on inputs of shape [8, 3, 4, 6]" in (bad.error or "")
    assert same_weights(students["good"], expected)


class LosesWorker(nn.Module):
    """torch tells of a loader process that was killed wherever the program just is."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")


def test_a_loader_process_that_was_killed_is_no_fault_of_the_student_that_was_at_work(first: Store) -> None:
    with pytest.raises(RuntimeError, match=r"DataLoader worker \(pid 7\)"):
        train({"good": make_student(), "at-work": LosesWorker()}, first)

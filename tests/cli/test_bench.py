"""`softlab bench` from the outside."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from softlab.recipes import bench
from tests.cli.program import CNN, DATA, INPUT, MLP, TRAIN, Answer, Softlab, assert_refused, interrupt, open_uncached

Bench = Callable[..., Answer]


@pytest.fixture
def run(stores: Path, softlab: Softlab, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Runs the command on the training store, in turns that are short."""
    monkeypatch.setattr(bench, "QUICK_TURN_S", 0.001)
    return lambda *more: softlab("bench", stores / "train.zarr", "--quick", "--device", "cpu", *more)


def titles(answer: Answer) -> list[str]:
    return [line.strip() for line in answer.out.splitlines() if line.startswith(("Reading ", "Steps "))]


def found_in(answer: Answer) -> dict[str, Any]:
    assert (answer.code, answer.err) == (0, "")
    found: dict[str, Any] = json.loads(answer.out)
    return found


def test_without_a_source_reading_is_measured(stores: Path, run: Bench) -> None:
    answer = run()

    facts, store = answer.facts(), open_uncached(stores / "train.zarr")
    assert (answer.code, answer.err) == (0, "")
    assert titles(answer) == ["Reading labels", "Reading features/pool"]
    assert facts["rows"] == f"200 in {len(store.manifest.shards)} shards"
    assert facts["bytes per row"].startswith("labels ")
    assert facts["opening"].endswith(" s")
    assert "relative: to np.take on a memory-mapped file" in answer.out


def test_with_a_source_the_steps_of_each_student_are_measured(run: Bench) -> None:
    answer = run(*TRAIN, *INPUT, *MLP, *CNN)

    assert (answer.code, answer.err) == (0, "")
    assert titles(answer)[2:] == ["Steps of mlp, batches of 128", "Steps of cnn, batches of 128"]
    assert "stored, and pool=" in answer.out
    assert answer.out.endswith("relative: to plain hard labels; the same batches of decoded samples in memory.\n")


def test_the_student_is_the_demos_unless_one_is_named(run: Bench) -> None:
    assert titles(run(*TRAIN, *INPUT))[-1] == "Steps of grey_cnn, batches of 128"


def test_options_of_training_are_those_of_train_student(run: Bench) -> None:
    found = found_in(run(*TRAIN, *INPUT, *MLP, "--batch-size", "50", "--feature", "pool=1", "--loss", "mse", "--json"))

    assert [rate["batch_size"] for rate in found["training"]] == [50] * 3
    assert found["training"][2]["features"] == {"pool": "1"}


def test_json_has_every_figure_and_all_are_positive(run: Bench) -> None:
    found = found_in(run(*TRAIN, *INPUT, *MLP, "--json"))

    assert list(found) == ["machine", "store", "reading", "training"]
    assert list(found["store"]) == ["num_rows", "num_shards", "open_seconds", "bytes_per_row"]
    assert list(found["store"]["bytes_per_row"]) == ["labels", "features/pool", "all"]
    assert list(found["reading"][0]) == [
        "group",
        "order",
        "place",
        "form",
        "rows_per_second",
        "relative",
        "units_per_second",
    ]
    assert list(found["training"][0]) == [
        *("student", "labels", "features", "batch_size"),
        *("samples_per_second", "relative"),
    ]
    assert {read["group"] for read in found["reading"]} == {"labels", "features/pool"}
    assert {rate["labels"] for rate in found["training"]} == {"hard", "stored", "stored and features"}
    assert all(read["rows_per_second"] > 0 and read["relative"] > 0 for read in found["reading"])
    assert all(rate["samples_per_second"] > 0 and rate["relative"] > 0 for rate in found["training"])
    assert found["store"]["open_seconds"] > 0
    assert min(found["store"]["bytes_per_row"].values()) > 0


def test_without_a_source_no_step_is_in_the_json(run: Bench) -> None:
    assert found_in(run("--json"))["training"] == []


def test_a_cache_that_is_too_small_is_said(run: Bench) -> None:
    answer = run("--cache-max-bytes", "0")

    assert "random, row cache" not in answer.out
    assert "row cache: not measured, for a decoded store is larger than --cache-max-bytes." in answer.out


def test_figures_have_room_in_a_narrow_terminal(run: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")

    assert "…" not in run(*TRAIN, *INPUT, *MLP).out


def test_the_help_has_the_store_as_its_argument(softlab: Softlab) -> None:
    answer = softlab("bench", "--help")

    assert answer.code == 0
    assert "Folder of the store." in answer.out
    assert "RECIPE" not in answer.out.split("Options")[0]
    assert "--store" not in answer.out


# What is refused.


def test_no_store_is_wrong_usage(softlab: Softlab) -> None:
    answer = softlab("bench")

    assert answer.code == 2
    assert "Missing argument" in answer.err


def test_a_folder_that_is_no_store_is_refused(tmp_path: Path, softlab: Softlab) -> None:
    assert_refused(softlab("bench", tmp_path), f"{tmp_path}/manifest.json: is missing", "Check the address")


def test_an_unfinished_store_is_refused(store: Path, softlab: Softlab) -> None:
    interrupt(store)

    assert_refused(softlab("bench", store), f"{store}: is not finished.", "to go on with it")


def test_a_source_that_does_not_match_is_refused(stores: Path, run: Bench) -> None:
    answer = run("--source", DATA / "train", "--set", "source.limit=201", *INPUT)

    assert_refused(answer, f"{stores / 'train.zarr'}: made from 200 samples", "has 201", "or dump again.")


def test_a_student_without_a_source_is_refused(run: Bench) -> None:
    assert_refused(run(*MLP), "`student` (--student) without a source to train it on.", "Give `source.path` (--source)")


def test_no_round_is_refused(run: Bench) -> None:
    assert_refused(run("--rounds", "0"), "rounds = 0: expected 1 or more. Change `rounds` (--rounds).")

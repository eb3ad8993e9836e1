"""Every command from the outside, on the data of the demo."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest
import torch

from softlab.cli.main import COMMANDS, main
from softlab.store.folder import count_finished_shards, is_unfinished
from tests.cli.program import (
    CNN,
    DATA,
    INPUT,
    LOGITS,
    ROOT,
    SHORT,
    SMALL,
    TEACHER,
    TEST,
    TRAIN,
    Softlab,
    interrupt,
    manifest_of,
    open_uncached,
    train,
)
from tests.forks import run_in_fork
from tests.kills import before_change
from tests.store.building import contents, flip_byte

# dump-teacher.


@pytest.mark.parametrize("format", ["zarr", "parquet"])
def test_a_dump_prints_what_it_made(tmp_path: Path, softlab: Softlab, format: str) -> None:
    out = tmp_path / "store"

    answer = softlab("dump-teacher", "--out", out, *TEACHER, *TRAIN, *SMALL, "--format", format)

    facts, store = answer.facts(), open_uncached(out)
    assert (answer.code, answer.err) == (0, "")
    assert facts["store"] == str(out)
    assert facts["rows"] == "200"
    assert facts["digest"] == store.digest
    assert facts["teacher accuracy"] == f"{store.manifest.statistics['logits'].accuracy:.2%}"
    assert (store.manifest.storage.format, store.k, store.feature_names) == (format, 4, ("pool",))
    assert len(store.manifest.shards) == 4


def test_a_dump_that_is_finished_says_so(stores: Path, softlab: Softlab) -> None:
    answer = softlab("dump-teacher", "--out", stores / "train.zarr", *TEACHER, *TRAIN, *SMALL)

    assert answer.code == 0
    assert answer.facts()["rate"] == "nothing to do, it was finished"


@pytest.mark.filterwarnings("default::softlab.errors.RandomWeights")
def test_a_teacher_without_weights_is_a_note(softlab: Softlab) -> None:
    answer = softlab("dump-teacher", "--plan", "--teacher", "softlab:grey_cnn", *INPUT, *TRAIN)

    assert answer.code == 0
    assert answer.err == "note: no `teacher.weights` (--weights), so the teacher's weights are random\n"


def test_a_plan_shows_what_each_k_would_mean_and_writes_nothing(tmp_path: Path, softlab: Softlab) -> None:
    answer = softlab("dump-teacher", "--plan", "--out", tmp_path / "store", *TEACHER, *TRAIN, "--k", "5")

    rows = [line.split() for line in answer.out.splitlines()]
    assert (answer.code, answer.err) == (0, "")
    assert "200 of 200 samples surveyed, 10 classes" in answer.out
    assert [row[0] for row in rows if row and row[0].isdecimal()] == ["200", "1", "2", "4", "5", "8", "10"]
    assert ["5", "*"] in [row[:2] for row in rows]
    assert not (tmp_path / "store").exists()


def test_set_overrides_flags_and_these_a_recipe(
    tmp_path: Path, softlab: Softlab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recipe of the demo, whose paths are relative to the project."""
    monkeypatch.chdir(ROOT)
    recipe, out = "pipelines/fashion_mnist/dump.toml", tmp_path / "store"

    answer = softlab(
        *("dump-teacher", recipe, "--out", out, "--limit", "50", "--k", "3"),
        *("--set", "dump.k=2", "--set", "dump.coding=uint8", "--set", "dump.temperature=[2, 8]"),
    )

    store = open_uncached(out)
    assert answer.code == 0
    assert (store.num_samples, store.k, store.temperatures) == (50, 2, (2.0, 8.0))
    assert store.manifest.classes[0].coding.logits == "uint8"
    assert store.manifest.inputs[0].options["mean"] == [0.286]
    assert store.feature_names == ("pool",)


# inspect, verify, convert.


def test_inspect_shows_what_a_store_holds(stores: Path, softlab: Softlab) -> None:
    answer = softlab("inspect", stores / "train.zarr")

    facts, store = answer.facts(), open_uncached(stores / "train.zarr")
    assert (answer.code, answer.err) == (0, "")
    assert facts["store"] == f"{stores / 'train.zarr'} (zarr, format version 2)"
    assert facts["teacher"].startswith("softlab:grey_resnet, 463,")
    assert facts["source"] == "parquet:train, 200 samples, 0 skipped"
    assert facts["kept"] == "4 largest logits as float16"
    assert facts["tail at"] == "T=1, T=2, T=4"
    assert facts["features"] == "pool = pool:none as float16 [128]"
    assert facts["finished"] == "yes"
    assert facts["digest"] == store.digest


def test_inspect_gives_the_manifest_as_json(stores: Path, softlab: Softlab) -> None:
    found = json.loads(softlab("inspect", stores / "train.zarr", "--json").out)

    assert found["finished"] is True
    assert found["digest"] == open_uncached(stores / "train.zarr").digest
    assert found["manifest"] == manifest_of(stores / "train.zarr")


def test_inspect_shows_how_far_an_unfinished_dump_is(store: Path, softlab: Softlab) -> None:
    interrupt(store)

    answer, found = softlab("inspect", store), json.loads(softlab("inspect", store, "--json").out)

    assert answer.code == 0
    assert answer.facts()["finished"] == "no: 0 of 4 shards; the same command that began it goes on with it"
    assert (found["finished"], found["finished_shards"]) == (False, 0)
    assert found["plan"]["outputs"][0]["selection"]["k"] == 4


def test_verify_says_that_a_store_is_intact(stores: Path, softlab: Softlab) -> None:
    answer, report = softlab("verify", stores / "train.zarr"), softlab("verify", stores / "train.zarr", "--json")

    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith(f"{stores / 'train.zarr'}: intact, ")
    assert json.loads(report.out)["intact"] is True


def test_verify_lists_what_is_damaged_missing_and_foreign(store: Path, softlab: Softlab) -> None:
    flip_byte(store / LOGITS)
    (store / "outputs/logits/class_ids/c/0/3/0").unlink()
    (store / "outputs/pool/notes.txt").write_text("mine")

    answer, report = softlab("verify", store), softlab("verify", store, "--json")

    assert (answer.code, answer.err) == (1, "")
    assert answer.out.splitlines()[:3] == [
        f"damaged: {LOGITS}",
        "missing: outputs/logits/class_ids/c/0/3/0",
        "foreign: outputs/pool/notes.txt",
    ]
    assert f"{store}: NOT intact" in answer.out
    assert report.code == 1
    assert json.loads(report.out) | {"intact": False, "damaged": [LOGITS]} == json.loads(report.out)


def test_convert_writes_the_same_rows_in_the_other_format(tmp_path: Path, stores: Path, softlab: Softlab) -> None:
    there, back = tmp_path / "there", tmp_path / "back"

    answers = [
        softlab("convert", stores / "train.zarr", there, "--format", "parquet"),
        softlab("convert", there, back, "--format", "zarr"),
    ]

    assert [(answer.code, answer.err) for answer in answers] == [(0, ""), (0, "")]
    assert answers[0].out.startswith(f"{there}: 200 rows as parquet, ")
    assert open_uncached(there).manifest.parent == open_uncached(stores / "train.zarr").digest
    rows = {name: data for name, data in contents(stores / "train.zarr").items() if "/c/" in name}
    assert rows == {name: data for name, data in contents(back).items() if "/c/" in name}


# train-student, train-teacher, evaluate.


def test_students_are_trained_in_one_pass_beside_their_baselines(
    tmp_path: Path, stores: Path, softlab: Softlab
) -> None:
    valid = ("--valid", DATA / "test", "--set", "valid.limit=100", "--valid-store", stores / "test.zarr")
    out = tmp_path / "run"

    answer = softlab(*train(stores / "train.zarr", out), *CNN, *valid, "--baseline")

    names = ["mlp", "cnn", "mlp-hard", "cnn-hard"]
    rows = {line.split()[0]: line.split() for line in answer.out.splitlines() if line.split()[0] in names}
    assert (answer.code, answer.err) == (0, "")
    assert list(rows) == names
    measured = {result["name"]: result["last"]["values"] for result in json.loads((out / "summary.json").read_text())}
    assert all(row[1] == f"{100 * measured[name]['accuracy']:.2f}" for name, row in rows.items())
    assert all(f"{100 * measured[name]['teacher_agreement']:.2f}" in row for name, row in rows.items())
    assert all((out / name / f"{kind}.safetensors").exists() for name in names for kind in ("best", "last"))
    assert not (out / "resume").exists()


def test_a_teacher_is_trained_and_then_dumped(tmp_path: Path, softlab: Softlab) -> None:
    model = ("--teacher", "softlab:grey_cnn", *INPUT)
    out = tmp_path / "run"

    trained = softlab("train-teacher", "--out", out, *model, *TRAIN, *SHORT)
    weights = ("--weights", out / "teacher/last.safetensors")
    dumped = softlab("dump-teacher", "--out", tmp_path / "store", *model, *weights, *TRAIN)

    assert (trained.code, trained.err) == (0, "")
    assert "teacher" in trained.out
    assert (dumped.code, dumped.facts()["rows"]) == (0, "200")


def test_evaluate_gives_figures_as_a_table_and_as_json(stores: Path, softlab: Softlab) -> None:
    """The teacher against its own labels."""
    model = ("--model", "softlab:grey_resnet", "--weights", DATA / "teacher.safetensors", *INPUT)

    table = softlab("evaluate", *model, *TEST, "--store", stores / "test.zarr")
    found = json.loads(softlab("evaluate", *model, *TEST, "--store", stores / "test.zarr", "--json").out)

    accuracy = open_uncached(stores / "test.zarr").manifest.statistics["logits"].accuracy
    assert (table.code, table.err) == (0, "")
    assert table.facts()["accuracy"] == f"{accuracy:.2%}"
    assert table.facts()["agreement with the teacher"] == "100.00%"
    assert (found["rows"], found["values"]["accuracy"], found["values"]["teacher_agreement"]) == (100, accuracy, 1.0)
    assert found["values"]["teacher_bucket_kl"] == pytest.approx(0, abs=2e-3), "a copy of the teacher"


# Ctrl-C.


IN_THIRD_SHARD = 60
"""Of the changes that a dump makes to its files, 16 for each shard after the first one's 33."""


def dump_until_ctrl_c(arguments: list[str], out: Path, stderr: Path) -> None:
    """The signal comes from this process itself: one that watches it may come when the dump is over."""
    before_change(out, IN_THIRD_SHARD, lambda: os.kill(os.getpid(), signal.SIGINT))
    os.dup2(os.open(stderr, os.O_WRONLY | os.O_CREAT), sys.stderr.fileno())
    torch.set_num_threads(1)
    main(arguments)


@pytest.mark.process
def test_ctrl_c_tells_how_to_go_on_and_the_dump_ends_with_the_same_bytes(tmp_path: Path, softlab: Softlab) -> None:
    stopped, undisturbed, stderr = tmp_path / "stopped", tmp_path / "undisturbed", tmp_path / "stderr"
    options = (*TEACHER, *TRAIN, "--set", "source.limit=480", "--set", "dump.shard_rows=64", "--batch-size", "32")
    dump = ["dump-teacher", *options, "--device", "cpu", "--out"]

    code = run_in_fork(dump_until_ctrl_c, [*dump, str(stopped)], stopped, stderr)

    done = count_finished_shards(stopped)
    assert (code, done >= 2) == (130, True)
    assert is_unfinished(stopped)
    assert stderr.read_text() == (
        f"{stopped}: stopped with {done} of 8 shards finished. Run the same command again to go on.\n"
    )
    resumed, whole = softlab(*dump, stopped), softlab(*dump, undisturbed)
    assert (resumed.code, whole.code) == (0, 0)
    assert f"for {480 - 64 * done:,} rows" in resumed.facts()["rate"]
    assert contents(stopped) == contents(undisturbed)


# What is told about commands.


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(softlab: Softlab, command: str) -> None:
    answer = softlab(command, "--help")

    assert (answer.code, answer.err) == (0, "")
    assert f"softlab {command} [OPTIONS]" in answer.out

"""Every command from the outside, on the data of the demo, and what each says to a wrong input."""

import json
import os
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from softlab.cli.main import COMMANDS, main
from softlab.store.cache import CacheOptions
from softlab.store.reader import Store, open_store
from softlab.store.writer import count_finished_shards, is_unfinished
from tests.forks import FORKS
from tests.store.building import contents, flip_byte

ROOT = Path(__file__).parents[2]
DATA = ROOT / "data/fashion_mnist"
INPUT = ("--input-mean", "0.286", "--input-std", "0.353")
TEACHER = ("--teacher", "softlab:grey_resnet", "--teacher-weights", str(DATA / "teacher.safetensors"), *INPUT)
TRAIN = ("--source", str(DATA / "train"), "--source-limit", "200")
TEST = ("--source", str(DATA / "test"), "--source-limit", "100")
SMALL = ("--k", "4", "--shard-rows", "64", "--feature", "pool=pool")
SHORT = ("--epochs", "1", "--batch-size", "50")
CNN, MLP = ("--student", "cnn=softlab:grey_cnn"), ("--student", "mlp=softlab:grey_mlp")

LOGITS = "labels/logits/c/0/1/0"
"""A file of the second shard."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    def facts(self) -> dict[str, str]:
        """The values of a list of facts."""
        pairs = [line.split("  ", 1) for line in self.out.splitlines() if "  " in line]
        return {name: value.strip() for name, value in pairs}


Softlab = Callable[..., Answer]


@pytest.fixture
def softlab(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Softlab:
    """Runs the program in this process."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # the program puts its own there
    monkeypatch.setenv("COLUMNS", "160")

    def run(*arguments: object) -> Answer:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        code = stopped.value.code or 0
        assert isinstance(code, int)
        return Answer(code=code, out=out, err=err)

    return run


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Finished stores of 200 training and 100 test images."""
    folder = tmp_path_factory.mktemp("stores")
    for name, source in [("train.zarr", TRAIN), ("test.zarr", TEST)]:
        with pytest.raises(SystemExit) as stopped:
            main(["dump-teacher", "--out", str(folder / name), *TEACHER, *source, *SMALL])
        assert not stopped.value.code
    return folder


@pytest.fixture
def store(stores: Path, tmp_path: Path) -> Path:
    """One's own copy of the finished training store, to damage."""
    return shutil.copytree(stores / "train.zarr", tmp_path / "store")


def open_uncached(path: Path) -> Store:
    return open_store(path, cache=CacheOptions(max_bytes=0))


def train(store: Path, out: Path, *more: str) -> tuple[object, ...]:
    """Arguments of the shortest training run."""
    return ("train-student", "--store", store, "--out", out, *TRAIN, *INPUT, *MLP, *SHORT, *more)


FINISHED_ONLY = ("source_fingerprint", "samples_file", "layout_files", "shards", "statistics")


def interrupt(out: Path) -> None:
    """Make a finished store look like a dump that was interrupted at its very end."""
    plan = {name: value for name, value in manifest_of(out).items() if name not in FINISHED_ONLY}
    (out / "manifest.json").unlink()
    (out / "commits").mkdir()
    (out / "commits/lock").touch()
    (out / "commits/plan.json").write_text(json.dumps(plan))


def manifest_of(store: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((store / "manifest.json").read_text())
    return manifest


def change_manifest(store: Path, change: Callable[[dict[str, Any]], None]) -> None:
    manifest = manifest_of(store)
    change(manifest)
    (store / "manifest.json").write_text(json.dumps(manifest))


def write_rows(path: Path, rows: pa.Table) -> Path:
    """A source of some rows of the demo's images, in a file named as theirs."""
    path.mkdir(parents=True)
    pq.write_table(rows, path / "train-00000-of-00001.parquet")
    return path


def demo_rows(count: int) -> pa.Table:
    return pq.read_table(next((DATA / "train").glob("*.parquet"))).slice(0, count)


def assert_refused(answer: Answer, *texts: str) -> None:
    """One line on stderr that says what is wrong and what to do."""
    assert answer.code == 1
    assert answer.out == ""
    assert answer.err.startswith("error: ")
    assert answer.err.count("\n") == 1
    for text in texts:
        assert text in answer.err


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
    assert facts["teacher accuracy"] == f"{store.manifest.statistics.accuracy:.2%}"
    assert (store.manifest.storage.format, store.k, store.feature_names) == (format, 4, ("pool",))
    assert len(store.manifest.shards) == 4


def test_a_dump_that_is_finished_says_so(stores: Path, softlab: Softlab) -> None:
    answer = softlab("dump-teacher", "--out", stores / "train.zarr", *TEACHER, *TRAIN, *SMALL)

    assert answer.code == 0
    assert answer.facts()["rate"] == "nothing to do, it was finished"


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
        *("dump-teacher", recipe, "--out", out, "--source-limit", "50", "--k", "3"),
        *("--set", "dump.k=2", "--set", "dump.coding=uint8", "--set", "dump.temperature=[2, 8]"),
    )

    store = open_uncached(out)
    assert answer.code == 0
    assert (store.num_samples, store.k, store.temperatures) == (50, 2, (2.0, 8.0))
    assert store.manifest.coding.logits == "uint8"
    assert store.manifest.teacher.finishing["mean"] == [0.286]
    assert store.feature_names == ("pool",)


# inspect, verify, convert.


def test_inspect_shows_what_a_store_holds(stores: Path, softlab: Softlab) -> None:
    answer = softlab("inspect", stores / "train.zarr")

    facts, store = answer.facts(), open_uncached(stores / "train.zarr")
    assert (answer.code, answer.err) == (0, "")
    assert facts["store"] == f"{stores / 'train.zarr'} (zarr, format version 1)"
    assert facts["teacher"].startswith("softlab:grey_resnet, 463,")
    assert facts["source"] == "parquet:train, 200 samples, 0 skipped"
    assert facts["kept"] == "4 largest logits as float16"
    assert facts["tail at"] == "T=1, T=2, T=4"
    assert facts["features"] == "pool = pool:none"
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
    assert answer.facts()["finished"] == "no: 0 of 4 shards; the same `softlab dump-teacher` command goes on with it"
    assert (found["finished"], found["finished_shards"]) == (False, 0)
    assert found["plan"]["selection"]["k"] == 4


def test_verify_says_that_a_store_is_intact(stores: Path, softlab: Softlab) -> None:
    answer, report = softlab("verify", stores / "train.zarr"), softlab("verify", stores / "train.zarr", "--json")

    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith(f"{stores / 'train.zarr'}: intact, ")
    assert json.loads(report.out)["intact"] is True


def test_verify_lists_what_is_damaged_missing_and_foreign(store: Path, softlab: Softlab) -> None:
    flip_byte(store / LOGITS)
    (store / "labels/class_ids/c/0/3/0").unlink()
    (store / "features/notes.txt").write_text("mine")

    answer, report = softlab("verify", store), softlab("verify", store, "--json")

    assert (answer.code, answer.err) == (1, "")
    assert answer.out.splitlines()[:3] == [
        f"damaged: {LOGITS}",
        "missing: labels/class_ids/c/0/3/0",
        "foreign: features/notes.txt",
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
    valid = ("--valid", DATA / "test", "--valid-limit", "100", "--valid-store", stores / "test.zarr")
    out = tmp_path / "run"

    answer = softlab(*train(stores / "train.zarr", out), *CNN, *valid, "--baseline")

    names = ["mlp", "cnn", "mlp-hard", "cnn-hard"]
    rows = {line.split()[0]: line.split() for line in answer.out.splitlines() if line.split()[0] in names}
    assert (answer.code, answer.err) == (0, "")
    assert list(rows) == names
    assert all(row[1].endswith("%") and row[3].endswith("%") for row in rows.values())
    assert all((out / name / f"{kind}.safetensors").exists() for name in names for kind in ("best", "last"))
    assert not (out / "resume").exists()


def test_a_teacher_is_trained_and_then_dumped(tmp_path: Path, softlab: Softlab) -> None:
    model = ("--teacher", "softlab:grey_cnn", *INPUT)
    out = tmp_path / "run"

    trained = softlab("train-teacher", "--out", out, *model, *TRAIN, *SHORT)
    weights = ("--teacher-weights", out / "teacher/last.safetensors")
    dumped = softlab("dump-teacher", "--out", tmp_path / "store", *model, *weights, *TRAIN)

    assert (trained.code, trained.err) == (0, "")
    assert "teacher" in trained.out
    assert (dumped.code, dumped.facts()["rows"]) == (0, "200")


def test_evaluate_gives_figures_as_a_table_and_as_json(stores: Path, softlab: Softlab) -> None:
    """The teacher against its own labels."""
    model = ("--model", "softlab:grey_resnet", "--model-weights", DATA / "teacher.safetensors", *INPUT)

    table = softlab("evaluate", *model, *TEST, "--store", stores / "test.zarr")
    found = json.loads(softlab("evaluate", *model, *TEST, "--store", stores / "test.zarr", "--output", "json").out)

    accuracy = open_uncached(stores / "test.zarr").manifest.statistics.accuracy
    assert (table.code, table.err) == (0, "")
    assert table.facts()["accuracy"] == f"{accuracy:.2%}"
    assert table.facts()["agreement with the teacher"] == "100.00%"
    assert (found["rows"], found["accuracy"], found["teacher_agreement"]) == (100, accuracy, 1.0)
    assert 0 <= found["teacher_kl"] < 0.05  # the tail of six classes is shared equally


# Stores that can't be used.

READERS: dict[str, Callable[[Path, Path], tuple[object, ...]]] = {
    "inspect": lambda store, out: ("inspect", store),
    "verify": lambda store, out: ("verify", store),
    "convert": lambda store, out: ("convert", store, out, "--format", "parquet"),
    "train-student": train,
    "evaluate": lambda store, out: ("evaluate", "--model", "softlab:grey_mlp", *INPUT, *TRAIN, "--store", store),
}
READS_ROWS = ["convert", "train-student", "evaluate"]


@pytest.mark.parametrize("command", READERS)
def test_what_is_no_store_is_refused(tmp_path: Path, softlab: Softlab, command: str) -> None:
    answer = softlab(*READERS[command](tmp_path, tmp_path / "out"))

    assert_refused(answer, f"{tmp_path}: no manifest.json here, so this is not a softlab store. Check the path.")


@pytest.mark.parametrize("command", [name for name in READERS if name != "inspect"])
def test_an_unfinished_store_is_refused(tmp_path: Path, store: Path, softlab: Softlab, command: str) -> None:
    interrupt(store)

    answer = softlab(*READERS[command](store, tmp_path / "out"))

    assert_refused(answer, "not finished", "Run the same `softlab dump-teacher` command again to go on with it.")


@pytest.mark.parametrize("command", READERS)
def test_a_newer_format_is_refused(tmp_path: Path, store: Path, softlab: Softlab, command: str) -> None:
    change_manifest(store, lambda manifest: manifest.update(format_version=2, novelty=True))

    answer = softlab(*READERS[command](store, tmp_path / "out"))

    assert_refused(answer, "format version 2, but this softlab reads version 1. Upgrade softlab.")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "truncated": (truncate, "bytes, recorded are"),
    "flipped byte": (flip_byte, "its bytes are not the recorded ones."),
    "deleted": (Path.unlink, "is missing."),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("command", READS_ROWS)
def test_a_damaged_shard_is_refused(tmp_path: Path, store: Path, softlab: Softlab, command: str, damage: str) -> None:
    do, found = DAMAGES[damage]
    do(store / LOGITS)

    answer = softlab(*READERS[command](store, tmp_path / "out"))

    assert_refused(answer, f"{store / LOGITS}: ", found, f"`softlab verify {store}` lists all damage; get those files")


def rename_first_file(path: str) -> Callable[[dict[str, Any]], None]:
    def change(manifest: dict[str, Any]) -> None:
        manifest["shards"][0]["files"][0]["path"] = path

    return change


def declare_huge(manifest: dict[str, Any]) -> None:
    manifest["storage"]["shard_rows"] = 1 << 40


HOSTILE: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "a path upwards": (
        rename_first_file("../../secret"),
        "'../../secret' is not a plain relative path inside the store",
    ),
    "a path from the root": (rename_first_file("/etc/passwd"), "'/etc/passwd' is not a plain relative path inside"),
    "a huge shape": (declare_huge, "(limit 1 GiB)"),
}


@pytest.mark.parametrize("change", HOSTILE)
@pytest.mark.parametrize("command", READERS)
def test_a_hostile_manifest_is_refused(
    tmp_path: Path, store: Path, softlab: Softlab, command: str, change: str
) -> None:
    do, found = HOSTILE[change]
    change_manifest(store, do)

    answer = softlab(*READERS[command](store, tmp_path / "out"))

    assert_refused(answer, f"{store / 'manifest.json'}: not a valid softlab manifest: ", found, "Get the store again.")


# Sources that the store was not made from.


@pytest.mark.parametrize("command", ["train-student", "evaluate"])
@pytest.mark.parametrize(
    ("limit", "texts"),
    [
        ("201", ["made from 200 samples", "has 201", "Point --source at the data the teacher saw, or dump again."]),
        ("199", ["made from 200 samples", "has 199", "or say --subset if you mean to train on a part of it."]),
    ],
)
def test_a_source_of_another_size_is_refused(
    tmp_path: Path, stores: Path, softlab: Softlab, command: str, limit: str, texts: list[str]
) -> None:
    answer = softlab(*READERS[command](stores / "train.zarr", tmp_path / "out"), "--source-limit", limit)

    assert_refused(answer, str(stores / "train.zarr"), *texts)


@pytest.mark.parametrize("command", ["train-student", "evaluate"])
def test_a_source_with_a_changed_sample_is_refused_by_its_key(
    tmp_path: Path, stores: Path, softlab: Softlab, command: str
) -> None:
    rows = demo_rows(200).to_pylist()
    rows[7]["image"]["bytes"] = rows[8]["image"]["bytes"]
    source = write_rows(tmp_path / "train", pa.Table.from_pylist(rows, schema=demo_rows(0).schema))
    arguments = READERS[command](stores / "train.zarr", tmp_path / "out")

    answer = softlab(*arguments, "--source", source, "--verify-inputs", "all")

    assert_refused(answer, "is not what the teacher saw: its content hash differs.", "or dump again.")


def test_a_dump_that_goes_on_with_another_source_is_refused(tmp_path: Path, store: Path, softlab: Softlab) -> None:
    interrupt(store)

    answer = softlab("dump-teacher", "--out", store, *TEACHER, *TRAIN, *SMALL, "--source-limit", "201")

    assert_refused(answer, "source.num_samples was 200, is now 201", "Repeat the first command to go on with it")


# Options and models that don't fit.


def test_more_logits_than_classes_are_refused(tmp_path: Path, softlab: Softlab) -> None:
    answer = softlab("dump-teacher", "--out", tmp_path / "store", *TEACHER, *TRAIN, "--k", "11")

    assert_refused(answer, "k = 11: the teacher has 10 classes. Choose --k from 1 to 10.")


def test_a_teacher_that_says_nan_is_refused(tmp_path: Path, softlab: Softlab) -> None:
    weights = load_file(DATA / "teacher.safetensors")
    weights["classifier.bias"][3] = torch.nan
    save_file(weights, tmp_path / "nan.safetensors")

    answer = softlab(
        "dump-teacher", "--out", tmp_path / "store", *TEACHER, *TRAIN, "--teacher-weights", tmp_path / "nan.safetensors"
    )

    assert_refused(answer, "NaN or infinite for 200 of 200 samples, such as '", "Check those inputs and the weights")


def test_weights_that_are_not_there_are_refused(tmp_path: Path, softlab: Softlab) -> None:
    missing = tmp_path / "missing.safetensors"

    answer = softlab("dump-teacher", "--out", tmp_path / "store", *TEACHER, *TRAIN, "--teacher-weights", missing)

    assert_refused(answer, f"{missing}: no such file. Check `weights`.")


def test_images_that_the_teacher_can_not_take_are_refused(tmp_path: Path, softlab: Softlab) -> None:
    answer = softlab("dump-teacher", "--out", tmp_path / "store", *TEACHER, *TRAIN, "--input-channels", "3")

    assert_refused(answer, "can't run on images of shape [", ", 3, 28, 28]: RuntimeError: Given groups=1")
    assert answer.err.endswith("Make them what it expects with --input-size and --input-channels.\n")


def test_an_unknown_key_of_a_recipe_is_refused_with_the_nearest(tmp_path: Path, softlab: Softlab) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("[dump]\ntemperatur = [1.0]\n")

    answer = softlab("dump-teacher", recipe, "--out", tmp_path / "store", *TEACHER, *TRAIN)

    assert_refused(answer, f"{recipe}: unknown key dump.temperatur. Did you mean temperature?")


@pytest.mark.filterwarnings("default::softlab.errors.InterpolatedTail")
def test_a_temperature_that_is_not_stored_is_interpolated_and_said_once(
    tmp_path: Path, stores: Path, softlab: Softlab
) -> None:
    answer = softlab(*train(stores / "train.zarr", tmp_path / "run", "--temperature", "3"))

    assert answer.code == 0
    assert answer.err == "note: temperature 3 is not stored (stored: 1, 2, 4): its tail mass is interpolated\n"


def test_a_temperature_below_the_stored_ones_is_refused(tmp_path: Path, stores: Path, softlab: Softlab) -> None:
    answer = softlab(*train(stores / "train.zarr", tmp_path / "run", "--temperature", "0.5"))

    assert_refused(answer, "temperature 0.5", "Train at 1 or more, or dump again with --temperature 0.5.")


# Ctrl-C.


def run_program(arguments: list[str], stderr: Path) -> None:
    os.dup2(os.open(stderr, os.O_WRONLY | os.O_CREAT), sys.stderr.fileno())
    torch.set_num_threads(1)
    main(arguments)


def test_ctrl_c_tells_how_to_go_on_and_the_dump_ends_with_the_same_bytes(tmp_path: Path, softlab: Softlab) -> None:
    stopped, undisturbed, stderr = tmp_path / "stopped", tmp_path / "undisturbed", tmp_path / "stderr"
    options = (*TEACHER, *TRAIN, "--source-limit", "1000", "--shard-rows", "64", "--batch-size", "32")
    dump = ["dump-teacher", *options, "--device", "cpu", "--out"]
    process = FORKS.Process(target=run_program, args=([*dump, str(stopped)], stderr))
    process.start()
    while count_finished_shards(stopped) < 2 and process.is_alive():
        time.sleep(0.001)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGINT)
    process.join()

    done = count_finished_shards(stopped)
    assert process.exitcode == 130
    assert is_unfinished(stopped)
    assert stderr.read_text() == (
        f"{stopped}: stopped with {done} of 16 shards finished. Run the same command again to go on.\n"
    )
    resumed, whole = softlab(*dump, stopped), softlab(*dump, undisturbed)
    assert (resumed.code, whole.code) == (0, 0)
    assert f"for {1000 - 64 * done:,} rows" in resumed.facts()["rate"]
    assert contents(stopped) == contents(undisturbed)


# What is told about commands.


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(softlab: Softlab, command: str) -> None:
    answer = softlab(command, "--help")

    assert (answer.code, answer.err) == (0, "")
    assert f"softlab {command} [OPTIONS]" in answer.out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_in_the_readme(command: str) -> None:
    assert f"softlab {command}" in (ROOT / "README.md").read_text()

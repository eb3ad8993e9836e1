"""What the commands say to stores, sources, options and models that they can't use: one line, and no traceback."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.cli.program import (
    DATA,
    INPUT,
    LOGITS,
    SMALL,
    TEACHER,
    TRAIN,
    Softlab,
    assert_refused,
    demo_rows,
    interrupt,
    train,
    write_rows,
)
from tests.manifests import change_manifest
from tests.store.building import flip_byte

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

    assert_refused(answer, f"{tmp_path}/manifest.json: is missing, so this is not a softlab store. Check the address")


@pytest.mark.parametrize("command", [name for name in READERS if name != "inspect"])
def test_an_unfinished_store_is_refused(tmp_path: Path, store: Path, softlab: Softlab, command: str) -> None:
    interrupt(store)

    answer = softlab(*READERS[command](store, tmp_path / "out"))

    next_step = "Run the same `softlab dump-teacher`, `convert` or `pull` command again to go on with it."
    assert_refused(answer, "not finished", next_step)


@pytest.mark.parametrize("command", READERS)
def test_a_newer_format_is_refused(tmp_path: Path, store: Path, softlab: Softlab, command: str) -> None:
    change_manifest(store, lambda manifest: manifest.update(format_version=3, novelty=True))

    answer = softlab(*READERS[command](store, tmp_path / "out"))

    assert_refused(answer, "format version 3, but this softlab reads versions 1 and 2. Upgrade softlab.")


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


@pytest.mark.parametrize(
    ("options", "texts"),
    [
        (("--devices", "99"), ("devices = 99: found ", ", expected 99 or more. ")),
        (("--devices", "2", "--device", "cuda:1"), ("devices = 2 with device = cuda:1: each process takes a GPU of",)),
        (("--devices", "all", "--device", "cpu"), ("devices = all with device = cpu: ", "Leave --device out")),
        (("--devices", "0"), ("devices = 0: expected 1 or more, or all. Change --devices.",)),
        (("--devices", "-2"), ("devices = -2: expected 1 or more, or all.",)),
        (("--devices", "few"), ("devices = 'few': expected a number, or all. Change --devices.",)),
    ],
)
def test_devices_that_can_not_share_a_dump_are_refused(
    tmp_path: Path, softlab: Softlab, options: tuple[str, ...], texts: tuple[str, ...]
) -> None:
    answer = softlab("dump-teacher", "--out", tmp_path / "store", *TEACHER, *TRAIN, *options)

    assert_refused(answer, *texts)
    assert not (tmp_path / "store").exists()


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

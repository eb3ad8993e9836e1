"""`softlab pull`, and commands that take what it gives."""

import json
from pathlib import Path

import pytest

from softlab.keys import Keys
from softlab.store.verify import verify_store
from tests.cli.program import DATA, INPUT, MLP, SHORT, TEACHER, TRAIN, Softlab, assert_refused, open_uncached, train
from tests.sharing.pulling import publish, write_keys

EVERY_THIRD = slice(0, None, 3)


def keys_of_a_third(stores: Path, path: Path) -> Path:
    keys = open_uncached(stores / "train.zarr").read_samples().keys
    assert isinstance(keys, Keys)
    return write_keys(path, list(keys[EVERY_THIRD]))


def test_a_pulled_store_is_the_whole_one_under_its_licence(tmp_path: Path, stores: Path, softlab: Softlab) -> None:
    address = publish(stores / "train.zarr", tmp_path / "shared", name="fashion")

    answer = softlab("pull", address, tmp_path / "copy")

    facts, whole = answer.facts(), open_uncached(stores / "train.zarr")
    assert (answer.code, answer.err) == (0, "")
    assert facts["store"] == str(tmp_path / "copy")
    assert facts["rows"] == "200: 1 view of 200 samples"
    assert "100.0% of the whole store's" in facts["fetched"]
    assert facts["digest"] == whole.digest == open_uncached(tmp_path / "copy").digest
    assert (facts["from"], facts["features"]) == ("fashion@1", "pool")
    assert facts["licence"] == "CC0-1.0"
    assert "part of" not in facts


def test_a_pulled_part_says_what_it_is_of_and_how_little_was_fetched(
    tmp_path: Path, stores: Path, softlab: Softlab
) -> None:
    address = publish(stores / "train.zarr", tmp_path / "shared", name="fashion")
    keys = keys_of_a_third(stores, tmp_path / "keys.txt")
    part = ("--views", "0", "--features", "none", "--samples", keys)

    answer = softlab("pull", address, tmp_path / "part", *part, "--json")
    again = softlab("pull", address, tmp_path / "part", *part)

    found = json.loads(answer.out)
    assert (answer.code, answer.err) == (0, "")
    assert (found["rows"], found["views"], found["features"]) == (67, 1, [])
    assert 0 < found["bytes_fetched"] < found["bytes_of_whole"]
    assert found["part_of"] == open_uncached(stores / "train.zarr").digest == again.facts()["part of"]
    assert found["digest"] == open_uncached(tmp_path / "part").digest
    assert open_uncached(tmp_path / "part").feature_names == ()
    assert verify_store(tmp_path / "part").is_intact


def test_of_a_tag_it_is_said_which_version_was_pulled(tmp_path: Path, stores: Path, softlab: Softlab) -> None:
    latest = publish(stores / "test.zarr", tmp_path / "shared", name="fashion").replace("@1", "@latest")

    answer = softlab("pull", latest, tmp_path / "copy", "--json")
    elsewhere = softlab("pull", tmp_path / "copy", tmp_path / "another", "--json")

    assert json.loads(answer.out)["from"] == "fashion@1"
    assert json.loads(elsewhere.out)["from"] is None


def test_a_student_trains_from_a_part_with_the_file_it_was_pulled_by(
    tmp_path: Path, stores: Path, softlab: Softlab
) -> None:
    keys = keys_of_a_third(stores, tmp_path / "keys.txt")
    softlab("pull", stores / "train.zarr", tmp_path / "part", "--samples", keys)

    answer = softlab(
        *("train-student", "--store", tmp_path / "part", "--out", tmp_path / "run"),
        *("--source", DATA / "train", "--set", f"source.keys={keys}", *INPUT, *MLP, *SHORT),
    )
    whole_source = softlab(*train(tmp_path / "part", tmp_path / "other"))

    assert answer.code == 0
    assert_refused(
        whole_source,
        "made from 67 samples, but parquet:train has 200",
        "Give `source.keys` the file of keys that the store was pulled with as --samples",
    )


def test_inspect_tells_a_part_from_the_whole(tmp_path: Path, stores: Path, softlab: Softlab) -> None:
    softlab("pull", stores / "train.zarr", tmp_path / "part", "--samples", keys_of_a_third(stores, tmp_path / "keys"))

    facts = softlab("inspect", tmp_path / "part").facts()

    assert facts["source"] == "parquet:train, 67 samples, 0 skipped (chosen from 200)"


def test_features_are_named_with_commas_between_them(tmp_path: Path, stores: Path, softlab: Softlab) -> None:
    refused = softlab("pull", stores / "train.zarr", tmp_path / "part", "--features", "pool, other")

    assert_refused(refused, "has no feature 'other' (it has: pool)")


@pytest.mark.filterwarnings("default::softlab.errors.RandomWeights")
def test_another_teacher_is_dumped_like_a_store_and_both_teach_one_student(
    tmp_path: Path, stores: Path, softlab: Softlab
) -> None:
    address = publish(stores / "train.zarr", tmp_path / "shared", name="fashion")
    other = ("--teacher", "softlab:grey_cnn", *INPUT)

    dumped = softlab("dump-teacher", "--like", address, "--out", tmp_path / "second", *other, *TRAIN, "--k", "4")
    both = softlab(
        *("train-student", "--store", stores / "train.zarr", "--store", tmp_path / "second"),
        *("--out", tmp_path / "run", *TRAIN, *INPUT, *MLP, *SHORT),
    )

    assert (dumped.code, both.code) == (0, 0)
    assert open_uncached(tmp_path / "second").manifest.teacher.model == "softlab:grey_cnn"


def test_views_are_not_given_beside_a_store_that_says_them(tmp_path: Path, stores: Path, softlab: Softlab) -> None:
    like = ("dump-teacher", "--like", stores / "train.zarr", "--out", tmp_path / "second", *TEACHER, *TRAIN)

    assert_refused(softlab(*like, "--views", "1"), "Leave `dump.views` (--views) out")
    assert_refused(softlab(*like, "--set", "augment.seed=0"), "Leave [augment] out")
    too_few = softlab(*like, "--set", "source.limit=100")
    assert_refused(too_few, "Point `source.path` (--source) at the data the teacher saw")
    assert "subset" not in too_few.err

"""Every command that reads a store takes one in a bucket too, by its URL or its published name."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import Tensor

from softlab.remote.address import parse_address
from softlab.remote.connect import connect
from softlab.remote.remote import Remote
from tests.cli.program import (
    INPUT,
    LOGITS,
    MLP,
    SHORT,
    SMALL,
    TEACHER,
    TEST,
    TRAIN,
    Answer,
    Softlab,
    assert_refused,
    interrupt,
    train,
)
from tests.servers.web import serving
from tests.store.remote import publish, upload

NEEDED_AT_START = ("manifest.json", "samples.parquet", "pixel_digests/")


@pytest.fixture
def remote(stores: Path, bucket: str) -> Remote:
    """The training store in a bucket."""
    return upload(stores / "train.zarr", f"{bucket}/shared/train")


def weights(out: Path) -> dict[str, Tensor]:
    return load_file(out / "mlp/last.safetensors")


def is_same(one: Path, other: Path) -> bool:
    ours, theirs = weights(one), weights(other)
    return ours.keys() == theirs.keys() and all(ours[name].equal(theirs[name]) for name in ours)


def run(softlab: Softlab, store: object, out: Path, *assignments: str) -> Answer:
    """Two epochs, with some options given as `KEY=VALUE`."""
    given = [argument for each in assignments for argument in ("--set", each)]
    return softlab(
        *("train-student", "--store", store, "--out", out, *TRAIN, *INPUT, *MLP, *SHORT, "--epochs", "2"), *given
    )


@pytest.mark.parametrize("cache_bytes", [1 << 30, 0])
def test_a_student_streams_its_labels_from_a_bucket_and_learns_the_same(
    tmp_path: Path, stores: Path, remote: Remote, softlab: Softlab, cache_bytes: int
) -> None:
    cache = f"cache={{dir = '{tmp_path / 'cache'}', max_bytes = {cache_bytes}}}"

    local = run(softlab, stores / "train.zarr", tmp_path / "local", "cache.max_bytes=0", "distil.shuffle=blocks")
    streamed = run(softlab, remote, tmp_path / "streamed", cache, "distil.shuffle=blocks")

    assert (local.code, streamed.code, streamed.err) == (0, 0, "")
    assert is_same(tmp_path / "local", tmp_path / "streamed")


def test_a_second_run_fetches_only_what_is_checked_at_its_start(
    tmp_path: Path, remote: Remote, softlab: Softlab
) -> None:
    cache = f"cache.dir={tmp_path / 'cache'}"
    assert run(softlab, remote, tmp_path / "first", cache).code == 0
    remote.delete(each.path for each in remote.list_objects() if not each.path.startswith(NEEDED_AT_START))

    second = run(softlab, remote, tmp_path / "second", cache)
    assert (second.code, second.err) == (0, "")
    assert is_same(tmp_path / "first", tmp_path / "second")

    assert_refused(run(softlab, remote, tmp_path / "third", f"cache.dir={tmp_path / 'new'}"), "is missing.")


def test_a_dump_straight_to_a_bucket_is_inspected_before_and_after_its_end_and_trains(
    tmp_path: Path, bucket: str, softlab: Softlab
) -> None:
    out = f"{bucket}/runs/train.zarr"
    arguments = ("dump-teacher", *TEACHER, *TRAIN, *SMALL, "--out")
    assert softlab(*arguments, tmp_path / "store").code == 0

    dumped = softlab(*arguments, out)
    assert (dumped.code, dumped.facts()["store"], dumped.err) == (0, out, "")
    assert softlab("inspect", out).facts()["digest"] == softlab("inspect", tmp_path / "store").facts()["digest"]
    assert softlab("verify", out).code == 0
    assert softlab(*arguments, out).facts()["rate"] == "nothing to do, it was finished"
    assert run(softlab, out, tmp_path / "student").code == 0

    remote = connect(parse_address(out))
    interrupt(tmp_path / "store")
    remote.write("commits/plan.json", (tmp_path / "store" / "commits" / "plan.json").read_bytes())
    remote.delete(["manifest.json"])
    assert "no: 0 of 4 shards" in softlab("inspect", out).facts()["finished"]


def test_a_published_store_is_named_by_its_version(tmp_path: Path, stores: Path, bucket: str, softlab: Softlab) -> None:
    record = publish(stores / "train.zarr", f"{bucket}/shared")
    name = f"{bucket}/shared/pets@1"

    assert run(softlab, name, tmp_path / "run").code == 0
    facts = softlab("inspect", name).facts()

    assert json.loads((tmp_path / "run/run.json").read_text())["stores"] == [record.digest]
    assert facts["store"].startswith(f"{name} (zarr")
    assert facts["digest"] == record.digest
    assert facts["published"] == "pets@1, 2026-01-02T03:04:05Z"
    assert (facts["licence"], facts["terms"]) == ("CC0-1.0", "Not for sale.")
    assert_refused(softlab("inspect", f"{bucket}/shared/pets@2"), "pets@2: is not published.", "softlab catalog")


def test_students_are_measured_against_a_store_in_a_bucket(
    tmp_path: Path, stores: Path, bucket: str, softlab: Softlab
) -> None:
    test = upload(stores / "test.zarr", f"{bucket}/test")
    out = tmp_path / "run"
    valid = ("--valid", TEST[1], "--set", "valid.limit=100", "--valid-store")
    assert softlab(*train(stores / "train.zarr", out, *valid, str(test))).code == 0
    model = ("--model", "softlab:grey_mlp", "--weights", str(out / "mlp/last.safetensors"), *INPUT, *TEST)

    here, there = (softlab("evaluate", *model, "--store", each, "--json") for each in (stores / "test.zarr", test))

    ours, theirs = json.loads(here.out), json.loads(there.out)
    assert there.code == 0
    assert theirs["values"]["teacher_bucket_kl"] == ours["values"]["teacher_bucket_kl"]
    (result,) = json.loads((out / "summary.json").read_text())
    assert result["last"]["values"]["teacher_bucket_kl"] == pytest.approx(ours["values"]["teacher_bucket_kl"])


def test_what_a_store_in_a_bucket_holds_is_shown(stores: Path, remote: Remote, softlab: Softlab) -> None:
    here, there = softlab("inspect", stores / "train.zarr").facts(), softlab("inspect", remote).facts()

    assert there.pop("store").startswith(f"{remote} (zarr")
    assert there == {name: value for name, value in here.items() if name != "store"}
    assert json.loads(softlab("inspect", remote, "--json").out)["finished"]


def test_a_store_in_a_bucket_is_verified(remote: Remote, softlab: Softlab) -> None:
    assert softlab("verify", remote).out.startswith(f"{remote}: intact, ")
    remote.write(LOGITS, b"changed")
    remote.write("notes.txt", b"not ours")

    answer = softlab("verify", remote)

    assert answer.code == 1
    assert answer.out.splitlines()[:2] == [f"damaged: {LOGITS}", "foreign: notes.txt"]
    assert json.loads(softlab("verify", remote, "--json").out)["foreign"] == ["notes.txt"]


def test_a_store_in_a_bucket_is_converted(tmp_path: Path, stores: Path, remote: Remote, softlab: Softlab) -> None:
    for where, out in ((stores / "train.zarr", "here"), (remote, "there")):
        assert softlab("convert", where, tmp_path / out, "--format", "parquet").code == 0

    ours, theirs = (softlab("inspect", tmp_path / out).facts()["digest"] for out in ("here", "there"))
    assert ours == theirs


def test_a_store_in_a_bucket_is_not_measured(remote: Remote, softlab: Softlab) -> None:
    assert_refused(softlab("bench", remote), "bench measures this machine.", f"`softlab pull {remote} DIR`")


def test_a_place_that_is_no_store_is_said(bucket: str, softlab: Softlab) -> None:
    for command in ("inspect", "verify"):
        assert_refused(softlab(command, f"{bucket}/nothing"), "so this is not a softlab store. Check the address")
    assert_refused(softlab("inspect", "s4://bucket/labels"), "not a kind of address that softlab reads.", "s3")


def test_of_a_store_on_a_web_server_it_is_said_that_foreign_files_were_not_looked_for(
    stores: Path, softlab: Softlab
) -> None:
    with serving(stores) as url:
        answer = softlab("verify", f"{url}/train.zarr")

    assert answer.code == 0
    assert answer.out.splitlines()[1] == "foreign files were not looked for: what this place holds can't be listed"

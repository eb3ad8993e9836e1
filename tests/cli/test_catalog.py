import json
import shutil
from hashlib import sha256
from pathlib import Path

import pytest

from softlab.sharing.publish.push import PushOptions, push
from softlab.sharing.signing.options import SigningOptions
from softlab.sharing.signing.sign import sign_store
from tests.cli.program import TEST, TRAIN, Softlab, assert_refused, open_uncached
from tests.sharing.signing.key_files import write_key


@pytest.fixture(scope="session")
def root(stores: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels of the training images, and of the test images under a licence with a terminal's signs in it."""
    root = tmp_path_factory.mktemp("labels")
    push(stores / "train.zarr", f"{root}/train", options=PushOptions(licence="CC-BY-4.0", terms=""))
    push(stores / "test.zarr", f"{root}/test", options=PushOptions(licence="\x1b[31mred", terms="ask\x07 us"))
    return root


def test_a_catalogue_is_a_table(root: Path, stores: Path, softlab: Softlab) -> None:
    answer = softlab("catalog", root)

    rows = [line.split() for line in answer.out.splitlines()]
    digest = open_uncached(stores / "train.zarr").digest
    assert (answer.code, answer.err) == (0, "")
    assert rows[0][:3] == ["store", "tags", "data"]
    assert [row[0] for row in rows[1:3]] == ["test@1", "train@1"]
    assert rows[2][-3] == "CC-BY-4.0"
    assert rows[2][-1] == digest[:12]
    assert answer.out.endswith(f"2 published versions at {root}\n")


def test_where_a_table_is_too_wide_facts_stand_under_each_other(
    root: Path, softlab: Softlab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")

    answer = softlab("catalog", root, "--search", "train@1 cc-by")

    facts = answer.facts()
    assert (facts["store"], facts["tags"], facts["K"]) == ("train@1", "latest", "4")
    assert facts["features"] == "pool"
    assert answer.out.endswith(f"1 of 2 published versions at {root}\n")


def test_who_a_version_says_has_signed_it_is_told(
    root: Path, softlab: Softlab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    copy = tmp_path / "labels"
    shutil.copytree(root, copy)
    key = write_key(tmp_path)
    sign_store(f"{copy}/train@1", options=SigningOptions(key=key.private))
    (copy / "test/versions/1.sig").write_text("{}")

    facts = softlab("catalog", copy, "--search", "train@1").facts()

    assert facts["signed"] == f"key {sha256(key.public.read_bytes()).hexdigest()[:12]}"
    assert softlab("catalog", copy, "--search", "test@1").facts()["signed"] == "unreadable"
    assert softlab("catalog", root, "--search", "train@1").facts()["signed"] == "no"
    listed = json.loads(softlab("catalog", copy, "--json").out)["versions"]
    assert [each["says_signed_by"] for each in listed] == ["unreadable", facts["signed"]]


def test_what_another_team_wrote_can_not_steer_the_terminal(
    root: Path, softlab: Softlab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")

    facts = softlab("catalog", root, "--search", "test red").facts()

    assert facts["licence"] == "?[31mred"
    assert facts["terms"] == "ask? us"


@pytest.mark.parametrize(("source", "fitting"), [(TRAIN, ["train@1"]), (TEST, ["test@1"])])
@pytest.mark.parametrize("more", [(), ("--contents",)])
def test_labels_are_found_for_ones_own_data(
    root: Path, softlab: Softlab, source: tuple[str, ...], fitting: list[str], more: tuple[str, ...]
) -> None:
    answer = softlab("catalog", root, *source, *more, "--json")

    versions = json.loads(answer.out)["versions"]
    assert [f"{each['name']}@{each['version']}" for each in versions] == fitting
    assert versions[0]["tags"] == ["latest"]


def test_no_labels_are_found_for_other_data(root: Path, softlab: Softlab) -> None:
    answer = softlab("catalog", root, *TRAIN[:2], "--set", "source.limit=199")

    assert (answer.code, answer.out) == (0, f"0 of 2 published versions at {root}\n")


def test_one_version_is_counted_as_one(stores: Path, tmp_path: Path, softlab: Softlab) -> None:
    push(stores / "train.zarr", f"{tmp_path}/train", options=PushOptions(licence="MIT", terms=""))

    assert softlab("catalog", tmp_path).out.endswith(f"\n1 published version at {tmp_path}\n")


@pytest.mark.parametrize("command", ["catalog", "gc"])
def test_a_folder_that_is_not_there_is_told(tmp_path: Path, softlab: Softlab, command: str) -> None:
    assert_refused(softlab(command, tmp_path / "nopub"), f"{tmp_path}/nopub: no such folder")


def test_contents_without_a_source_are_refused(root: Path, softlab: Softlab) -> None:
    assert_refused(softlab("catalog", root, "--contents"), "Give `source.path` (--source)")

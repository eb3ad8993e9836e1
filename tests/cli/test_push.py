import json
import os
import pty
import sys
from pathlib import Path

import pytest

from softlab.cli.main import main
from softlab.store.published import read_version, store_path
from tests.cli.program import LOGITS, Softlab, assert_refused, open_uncached
from tests.forks import FORKS
from tests.sharing.publishing import latest, published, remote_of
from tests.store.building import flip_byte

SAID = ("--licence", "CC-BY-4.0", "--terms", "")


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path / "labels")


def test_a_push_prints_what_was_published(stores: Path, root: str, softlab: Softlab) -> None:
    answer = softlab("push", stores / "train.zarr", f"{root}/mnist", *SAID)

    facts, store = answer.facts(), open_uncached(stores / "train.zarr")
    assert (answer.code, answer.err) == (0, "")
    assert facts["published"] == f"{root}/mnist@1"
    assert facts["digest"] == store.digest
    assert facts["uploaded"].startswith(f"{len(store.manifest.files)} files, ")
    assert published(root, "mnist") == {1: store.digest}


def test_a_push_prints_json(stores: Path, root: str, softlab: Softlab) -> None:
    softlab("push", stores / "train.zarr", f"{root}/mnist", *SAID)

    answer = softlab("push", stores / "train.zarr", f"{root}/mnist", *SAID, "--json")

    pushed = json.loads(answer.out)
    assert (pushed["version"], pushed["files_uploaded"], pushed["bytes_uploaded"]) == (1, 0, 0)
    assert pushed["files_skipped"] == len(open_uncached(stores / "train.zarr").manifest.files)


def test_tags_are_moved_to_the_version(stores: Path, root: str, softlab: Softlab) -> None:
    softlab("push", stores / "train.zarr", f"{root}/mnist", *SAID)

    answer = softlab("push", stores / "test.zarr", f"{root}/mnist", *SAID, "--no-latest", "--tag", "trial")

    assert answer.code == 0
    assert latest(root, "mnist") == 1
    assert open_uncached(Path(f"{root}/mnist@trial")).digest == open_uncached(stores / "test.zarr").digest


def test_a_damaged_version_is_mended_by_the_same_command_with_check(stores: Path, root: str, softlab: Softlab) -> None:
    push_it = ("push", stores / "train.zarr", f"{root}/mnist@1", *SAID)
    softlab(*push_it)
    flip_byte(Path(root) / store_path("mnist", open_uncached(stores / "train.zarr").digest) / LOGITS)
    assert softlab("verify", f"{root}/mnist@1").code != 0

    answer = softlab(*push_it, "--check")

    assert answer.facts()["uploaded"].startswith("1 file, ")
    assert softlab("verify", f"{root}/mnist@1").code == 0


@pytest.mark.parametrize("missing", ["licence", "terms"])
def test_without_a_terminal_what_is_missing_must_be_given(
    stores: Path, root: str, softlab: Softlab, missing: str
) -> None:
    said = ["--licence", "MIT"] if missing == "terms" else ["--terms", ""]

    answer = softlab("push", stores / "train.zarr", f"{root}/mnist", *said)

    assert_refused(answer, f"--{missing} is missing: ", f"Give --{missing} TEXT")

    assert not Path(root).exists()


def push_in_terminal(terminal: str, store: Path, place: str) -> None:
    descriptor = os.open(terminal, os.O_RDWR)
    for stream in range(3):
        os.dup2(descriptor, stream)
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")
    main(["push", str(store), place])


@pytest.mark.process
def test_in_a_terminal_licence_and_terms_are_asked_for(stores: Path, root: str) -> None:
    ours, theirs = pty.openpty()
    process = FORKS.Process(target=push_in_terminal, args=(os.ttyname(theirs), stores / "train.zarr", f"{root}/mnist"))
    process.start()
    os.write(ours, b"CC0-1.0\nmay be used for anything\n")
    process.join(60)

    record = read_version(remote_of(root), "mnist", 1)
    assert process.exitcode == 0
    assert (record.licence, record.terms) == ("CC0-1.0", "may be used for anything")
    asked = os.read(ours, 1 << 16).decode()
    assert "Licence of the soft labels" in asked
    for descriptor in (ours, theirs):
        os.close(descriptor)


def test_a_number_that_is_taken_is_refused(stores: Path, root: str, softlab: Softlab) -> None:
    softlab("push", stores / "train.zarr", f"{root}/mnist@1", *SAID)

    answer = softlab("push", stores / "test.zarr", f"{root}/mnist@1", *SAID)

    assert_refused(answer, "mnist@1: another store is published", "push mnist@2")


def test_a_damaged_store_is_refused(store: Path, root: str, softlab: Softlab) -> None:
    flip_byte(store / LOGITS)

    assert_refused(softlab("push", store, f"{root}/mnist", *SAID), LOGITS, "softlab verify")

    assert published(root, "mnist") == {}


def test_a_folder_without_a_store_is_refused(tmp_path: Path, root: str, softlab: Softlab) -> None:
    assert_refused(softlab("push", tmp_path, f"{root}/mnist", *SAID), "not a softlab store")

import json
import os
import time
from pathlib import Path

import pytest

from tests.cli.program import Softlab, assert_refused
from tests.sharing.publishing import digest_of_store, publish, small_store


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A published store, and one that no version names since 30 days."""
    root = tmp_path / "labels"
    publish(small_store(tmp_path / "live"), f"{root}/pets")
    tree = root / "pets/stores" / ("0" * 64)
    tree.mkdir()
    (tree / "samples.parquet").write_bytes(bytes(5000))
    then = time.time() - 30 * 86_400
    os.utime(tree / "samples.parquet", (then, then))
    return root


def test_what_was_removed_is_told(root: Path, tmp_path: Path, softlab: Softlab) -> None:
    answer = softlab("gc", root)

    rows = [line.split() for line in answer.out.splitlines()]
    assert (answer.code, answer.err) == (0, "")
    assert rows[1][:5] == [f"pets/stores/{'0' * 64}", "store", "1", "5.0", "kB"]
    assert answer.out.endswith("removed 1 file, 5.0 kB\n")
    assert [path.name for path in (root / "pets/stores").iterdir()] == [digest_of_store(tmp_path / "live")]


def test_a_dry_run_only_tells(root: Path, softlab: Softlab) -> None:
    answer = softlab("gc", root, "--dry-run", "--json")

    assert [each["bytes"] for each in json.loads(answer.out)["leftovers"]] == [5000]
    assert (root / "pets/stores" / ("0" * 64)).exists()
    assert "would remove 1 file," in softlab("gc", root, "--dry-run").out


@pytest.mark.parametrize(("age", "files"), [("29d", 1), ("4w", 1), ("31d", 0), ("800h", 0)])
def test_only_what_is_older_goes(root: Path, softlab: Softlab, age: str, files: int) -> None:
    answer = softlab("gc", root, "--older-than", age, "--json")

    assert len(json.loads(answer.out)["leftovers"]) == files


@pytest.mark.parametrize("age", ["5", "week", "-1d", "1.5h"])
def test_an_age_that_is_none_is_refused(root: Path, softlab: Softlab, age: str) -> None:
    assert_refused(softlab("gc", root, f"--older-than={age}"), "Write a number and m, h, d or w: 7d.")


def test_an_age_that_a_running_push_may_have_is_refused(root: Path, softlab: Softlab) -> None:
    assert_refused(softlab("gc", root, "--older-than", "59m"), "Give --older-than 1h or more")

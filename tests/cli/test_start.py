"""Commands that look at stores and copy them never wait for torch."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

PROGRAM = """
import sys
from softlab.cli.main import main

try:
    main(sys.argv[1:])
finally:
    heavy = {"torch", "torchvision", "zarr", "PIL", "pyarrow"}.intersection(sys.modules)
    print("imported:", *sorted(heavy), file=sys.stderr)
"""


def imported_by(*arguments: object, program: str = PROGRAM) -> str:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stderr.splitlines()[-1].partition("imported:")[2].strip()


@pytest.mark.parametrize("command", ["inspect", "verify", "catalog", "push", "pull", "sign", "gc"])
def test_the_help_of_a_command_is_shown_without_torch(command: str) -> None:
    assert imported_by(command, "--help") in ("", "pyarrow")


@pytest.mark.parametrize("command", ["push", "pull"])
def test_that_of_push_and_pull_without_anything_of_stores(command: str) -> None:
    program = PROGRAM.replace('"pyarrow"', '"pyarrow", "numpy", "msgspec"')

    assert imported_by(command, "--help", program=program) == ""


def test_the_version_is_shown_without_torch() -> None:
    assert imported_by("--version") == ""


@pytest.mark.parametrize("command", [["inspect"], ["inspect", "--json"], ["verify"]])
def test_a_store_is_shown_and_checked_without_torch(command: list[str], stores: Path) -> None:
    assert imported_by(*command, stores / "train.zarr") == ""


def test_a_store_is_pulled_and_a_catalogue_is_read_without_torch(stores: Path, tmp_path: Path) -> None:
    push = ("push", stores / "train.zarr", tmp_path / "labels/demo", "--licence", "CC0-1.0", "--terms", "")
    imported_by(*push)  # the figures that it publishes are measured with torch

    assert "torch" not in imported_by("catalog", tmp_path / "labels")
    assert "torch" not in imported_by("pull", tmp_path / "labels/demo@1", tmp_path / "copy")

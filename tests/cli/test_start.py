"""Commands that look at stores and copy them never wait for torch, and none for what it doesn't need."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.program import train

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


def test_the_list_of_commands_needs_what_prints_it_and_nothing_else() -> None:
    needed = {
        "annotated_doc",
        "attr",
        "lazy_loader",
        "markdown_it",
        "mdurl",
        "pygments",
        "rich",
        "shellingham",
        "typer",
    }
    installed = """{name.split(".")[0] for name, module in sys.modules.items()
        if "site-packages" in str(getattr(module, "__file__", "")) and not name.startswith("_")}"""
    program = PROGRAM.replace('{"torch", "torchvision", "zarr", "PIL", "pyarrow"}.intersection(sys.modules)', installed)

    assert {"torch", "numpy"} <= set(imported_by("--help", program=f"import torch\n{program}").split())
    assert set(imported_by("--help", program=program).split()) <= needed


def test_a_run_of_training_starts_without_what_other_commands_need(stores: Path, tmp_path: Path) -> None:
    found = ("softlab.student.train", "accelerate", "zarr", "softlab.teacher.dump", "transformers", "datasets", "ray")
    program = PROGRAM.replace('{"torch", "torchvision", "zarr", "PIL", "pyarrow"}', str(set(found)))

    assert imported_by(*train(stores / "train.zarr", tmp_path / "run"), program=program) == found[0]


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

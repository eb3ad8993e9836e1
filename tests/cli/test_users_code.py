"""A module of the user's own is imported for what the user names, and for nothing that others have written."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from softlab.identity import digest_of
from softlab.models.about import ENTRY, HASH_ENTRY
from tests.cli.program import DATA, INPUT, SMALL, TEACHER, TRAIN, Softlab, train
from tests.manifests import change_manifest, set_at

MODULE = """
from pathlib import Path

from softlab.modalities.images.models import grey_cnn, grey_resnet

Path("imported").touch()
"""
CHAIN = """
[common]
source.path = "images"

[[stage]]
command = "train-teacher"
out = "teacher"
teacher.model = "leaves_a_trace:grey_cnn"
teacher.arguments = { model = "not:one" }

[[stage]]
command = "train-student"
store = ["store"]
out = "student"
[stage.student.a]
model = "softlab:grey_cnn"
[stage.student.b]
model = "os:system"
[stage.input]
modality = "no_such_package.text"

[[stage]]
command = "evaluate"
model.model = "torch.nn:Linear"

[[stage]]
command = "evaluate"
model.model = "softlab:grey_cnn"
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a module that leaves a trace when it is imported."""
    (tmp_path / "leaves_a_trace.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.delitem(sys.modules, "leaves_a_trace", raising=False)
    return tmp_path


def is_imported(folder: Path) -> bool:
    return (folder / "imported").exists()


def test_a_chain_shows_what_it_would_import_and_imports_nothing(here: Path, softlab: Softlab) -> None:
    (here / "chain.toml").write_text(CHAIN)

    shown = softlab("chain", "chain.toml", "--show")

    torch = Path(sys.modules["torch"].__file__ or "").resolve()
    assert (shown.code, shown.err, is_imported(here)) == (0, "", False)
    assert shown.out.splitlines() == [
        "1 of 4: train-teacher",
        f"  teacher.model = leaves_a_trace:grey_cnn: {here}/leaves_a_trace.py, outside the installed packages",
        "2 of 4: train-student",
        "  student.b.model = os:system: refused, it is of Python itself",
        "  input.modality = no_such_package.text: not found",
        "3 of 4: evaluate",
        f"  model.model = torch.nn:Linear: {torch}, an installed package",
        "4 of 4: evaluate",
        "  nothing but softlab and its packages",
    ]


def test_what_a_store_names_is_never_imported(here: Path, softlab: Softlab) -> None:
    store = here / "store"
    assert softlab("dump-teacher", *TEACHER, *TRAIN, *SMALL, "--out", store).code == 0
    change_manifest(store, lambda tree: set_at(tree, "teacher.model", "leaves_a_trace:grey_cnn"))
    change_manifest(store, lambda tree: set_at(tree, "inputs.0.modality", "leaves_a_trace"))

    answers = [
        softlab(*command)
        for command in (
            ("inspect", store),
            ("verify", store),
            ("convert", store, here / "converted", "--format", "parquet"),
            ("push", store, here / "bucket/labels", "--licence", "CC-BY-4.0", "--terms", ""),
            ("pull", here / "bucket/labels@1", here / "pulled"),
            ("catalog", here / "bucket"),
            train(store, here / "run"),
            ("dump-teacher", *TEACHER, *TRAIN, *SMALL, "--out", here / "other", "--set", f"like={store}"),
        )
    ]

    assert "leaves_a_trace" in answers[0].out
    assert [answer.code for answer in answers[:6]] == [0] * 6
    assert not is_imported(here)


def test_what_weights_say_of_themselves_is_never_imported(here: Path, softlab: Softlab) -> None:
    about = {
        "input": {"field": "image", "modality": "leaves_a_trace", "options": {}},
        "class_names": None,
        "recipe": {"student": {"model": "leaves_a_trace:grey_cnn"}},
    }
    text = json.dumps(about)
    save_file(
        load_file(DATA / "teacher.safetensors"),
        here / "weights.safetensors",
        metadata={ENTRY: text, HASH_ENTRY: digest_of(text.encode())},
    )
    given = ("--weights", here / "weights.safetensors", *TRAIN, *INPUT)

    evaluated = softlab("evaluate", "--model", "softlab:grey_resnet", *given)
    dumped = softlab("dump-teacher", "--teacher", "softlab:grey_resnet", *given, "--out", here / "store")

    assert not is_imported(here)
    for answer in (evaluated, dumped):
        assert answer.code == 1
        assert "the weights were trained on the modality leaves_a_trace" in answer.err


@pytest.mark.process
@pytest.mark.slow
def test_of_the_current_folder_several_processes_import_what_is_named_and_nothing_else(
    here: Path, softlab: Softlab
) -> None:
    hijack = "from pathlib import Path\nPath('hijacked').touch()\nraise SystemExit(3)\n"
    for name in ("typer.py", "torch.py", "json.py"):
        (here / name).write_text(hijack)
    model = ("--teacher", "leaves_a_trace:grey_resnet", *TEACHER[2:])
    program = ("-c", "from softlab.cli.main import main; main()")
    command = ("dump-teacher", *model, *TRAIN, "--k", "4", "--device", "cpu", "--devices", "2", "--out", "store")

    ended = subprocess.run(
        [sys.executable, "-P", *program, *command],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert (ended.returncode, is_imported(here), (here / "hijacked").exists()) == (0, True, False), ended.stderr
    assert ended.stderr.count("leaves_a_trace is code outside the installed packages, and is run: ") == 1

"""What stores, sources and catalogues of others say is never printed as signs that a terminal obeys."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from softlab.cli.say import say, say_beside
from softlab.errors import printable
from tests.cli.program import CNN, SHORT, TRAIN, Softlab
from tests.manifests import change_manifest

ATTACK = "\x1b[2Jx\x07\x9b1m\u202ey\r\nerror: forged\nstore  forged"


def assert_harmless(text: str) -> None:
    lines = text.split("\n")
    assert all(line.isprintable() for line in lines)
    assert not [line for line in lines if line.startswith(("error: forged", "store  forged"))]


def attack(manifest: dict[str, Any]) -> None:
    manifest["teacher"]["model"] = ATTACK
    manifest["source"]["name"] = ATTACK
    for output in manifest["outputs"]:
        if "label_space" in output:
            output["label_space"]["class_names"] = [f"{ATTACK}{number}" for number in range(10)]


def test_signs_that_are_printed_stay() -> None:
    assert printable("Käse 42 % ± 日本") == "Käse 42 % ± 日本"


def test_a_line_stays_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    say(f"store {ATTACK}")

    assert capsys.readouterr().out == "store ?[2Jx??1m?y??error: forged?store  forged\n"


def test_further_lines_of_a_message_are_indented(capsys: pytest.CaptureFixture[str]) -> None:
    say_beside(f"error: {ATTACK}")

    assert capsys.readouterr().err == "error: ?[2Jx??1m?y?\n  error: forged\n  store  forged\n"


@pytest.mark.parametrize(
    "command",
    [
        ("inspect",),
        ("inspect", "--rows", "3"),
        ("verify",),
        ("train-student", *TRAIN, *CNN, *SHORT),
        ("evaluate", "softlab:grey_cnn", "--source", "nothing-here", "--set"),
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_no_command_prints_them(stores: Path, softlab: Softlab, tmp_path: Path, command: tuple[str, ...]) -> None:
    store = tmp_path / "hostile"
    shutil.copytree(stores / "train.zarr", store)
    change_manifest(store, attack)
    name, *options = command
    if name == "train-student":
        options += ["--store", str(store), "--out", str(tmp_path / "run")]
    elif name == "evaluate":
        options += [f"store={store}"]
    else:
        options = [str(store), *options]

    answer = softlab(name, *options)

    assert_harmless(answer.out)
    assert_harmless(answer.err)
    assert answer.out or answer.err

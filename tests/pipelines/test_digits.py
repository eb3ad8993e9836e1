"""The pipeline of spoken digits, with tones in place of voices."""

import importlib
import re
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT
from tests.modalities.audio.clips import encode, tone

pytestmark = pytest.mark.slow

ROWS = (
    "the teacher",
    "the 200 labels",
    "the teacher's largest class of 1,800",
    "stored labels of 4 views of 1,800",
    "all 2,000 labels",
)


# A teacher of one epoch knows so little that its classes could be others.
@pytest.mark.filterwarnings("ignore:.*count classes otherwise:softlab.errors.OddLabels")
def test_every_way_to_learn_has_the_accuracy_of_both_students(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT / "pipelines/audio"))
    digits = importlib.import_module("digits")
    for place, voice in enumerate(digits.VOICES):
        for digit in range(10):
            for number in range(digits.LABELLED + 1):
                sound = tone(200 + 150 * digit + 5 * place + number, seconds=0.05)
                (tmp_path / f"{digit}_{voice}_{number}.wav").write_bytes(encode(sound))
    monkeypatch.setattr(digits, "TEACHER_EPOCHS", 1)
    monkeypatch.setattr(digits, "EPOCHS", 5)
    monkeypatch.setattr(sys, "argv", ["digits.py", "--recordings", str(tmp_path), "--seeds", "1"])

    digits.main()

    found = dict(re.findall(r"^\| ([^|]+) \| (\d+\.\d\d) \| \d+\.\d\d \|$", capsys.readouterr().out, re.MULTILINE))
    assert tuple(found) == ROWS
    assert all(0 <= float(accuracy) <= 100 for accuracy in found.values())

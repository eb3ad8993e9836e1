"""The pipeline of spoken languages, with tones in place of voices."""

import importlib
import re
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT
from tests.modalities.audio.clips import RATE, tone

pytestmark = pytest.mark.slow

ROWS = ("the teacher", "the 7 labels", "the teacher's largest class", "stored labels of 4 views", "all labels")


def test_every_way_to_learn_has_the_accuracy_on_held_out_prompts_and_on_another_voice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import soundfile

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT / "pipelines/audio"))
    languages = importlib.import_module("languages")
    for place, voice in enumerate(languages.VOICES):
        folder = tmp_path / languages.FOLDER / f"download/asterisk-{voice.package}/usr/share/asterisk/sounds"
        (folder / voice.folder).mkdir(parents=True)
        for number in range(10):
            hertz = 300 + 200 * languages.LANGUAGES.index(voice.language) + 10 * place + number
            file = folder / voice.folder / f"{number}.gsm"
            soundfile.write(file, tone(hertz, seconds=1.0), RATE, format="RAW", subtype="GSM610")
    monkeypatch.setattr(languages, "LABELLED", 1)
    monkeypatch.setattr(languages, "TEACHER_EPOCHS", 1)
    monkeypatch.setattr(languages, "EPOCHS", 1)
    monkeypatch.setattr(sys, "argv", ["languages.py", "--seeds", "1"])

    languages.main()

    found = dict(re.findall(r"^\| ([^|]+) \|((?: \d+\.\d\d \|){4})$", capsys.readouterr().out, re.MULTILINE))
    assert tuple(found) == ROWS
    assert all(0 <= float(each) <= 100 for figures in found.values() for each in figures.split("|")[:-1])


def test_what_is_held_out_is_held_out_in_every_language(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "pipelines/audio"))
    languages = importlib.import_module("languages")
    clips = [
        languages.Clip(wav=b"%d" % number, voice=voice.name, language=voice.language, prompt=str(number))
        for voice in languages.VOICES
        for number in range(40)
    ]

    parts = languages.split(clips, seed=1)

    assert {clip.voice for clip in parts["unheard"]} == {"armelle"}
    assert not {clip.prompt for clip in parts["held out"]} & {clip.prompt for clip in parts["whole"]}
    assert len(parts["labelled"]) == 7 * languages.LABELLED
    assert len(parts["labelled"]) + len(parts["unlabelled"]) == len(parts["whole"])

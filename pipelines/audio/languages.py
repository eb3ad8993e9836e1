"""A GRU with 20 labelled telephone prompts of each voice teaches small students to tell five languages apart.

    pip install '.[audio]'
    python pipelines/audio/languages.py [--seeds 3]

The same prompts in English, Spanish, French, Italian and Russian, by eight voices, are in Debian's packages
asterisk-core-sounds-*-gsm and asterisk-prompt-*, which apt downloads where they aren't installed. All are coded alike
(GSM 06.10, 8 kHz), so that no language is known by its codec. The first 2 seconds of a prompt are a clip. Each seed
leaves one voice out, of a language that has two; of the seven others a fifth of the prompts are held out, the same in
all languages. Models are measured on both. Teacher and students see clips under the same kind of views (cut, masked,
louder or quieter), as in digits.py. Noise isn't added: prompts have none, and students that learn with it are lost
without.
"""

import argparse
import random
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import soundfile
import torch
from learning import VIEWS, Task, accuracy, build, dump, largest_classes, open_clips, train

import softlab
from softlab.sources.source import Source

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "language"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "predictions"))
from debian import files_of
from training import print_means

FOLDER = Path("runs/audio/languages")
LANGUAGES = ("English", "French", "Italian", "Russian", "Spanish")
RATE, LEAST_SECONDS, SECONDS = 8_000, 1.0, 2.0
LABELLED, HELD_OUT = 20, 0.2
TASK = Task(
    folder=FOLDER,
    classes=LANGUAGES,
    input=softlab.AudioInput(sample_rate=RATE, mels=40, hop_ms=20.0, window_ms=40.0),
    augment=softlab.AudioViews(crop=0.1, gain=6.0, mask=0.2),
)
TEACHER = softlab.ModelOptions(
    model="softlab:audio_gru", arguments={"num_classes": 5, "width": 192, "num_layers": 2, "dropout": 0.3}
)
STUDENTS = {
    "convolutions": softlab.ModelOptions(model="softlab:audio_conv", arguments={"num_classes": 5, "width": 24}),
    "GRU": softlab.ModelOptions(model="softlab:audio_gru", arguments={"num_classes": 5, "width": 32}),
}
TEACHER_EPOCHS, EPOCHS = 45, 4


@dataclass(frozen=True, kw_only=True)
class Voice:
    """One person in one language."""

    name: str
    language: str
    package: str
    folder: str


VOICES = (
    Voice(name="allison", language="English", package="core-sounds-en-gsm", folder="en_US_f_Allison"),
    Voice(name="allison-es", language="Spanish", package="core-sounds-es-gsm", folder="es_MX_f_Allison"),
    Voice(name="june", language="French", package="core-sounds-fr-gsm", folder="fr_CA_f_June"),
    Voice(name="carlo", language="Italian", package="core-sounds-it-gsm", folder="it_IT_m_Carlo"),
    Voice(name="ivrvoice", language="Russian", package="core-sounds-ru-gsm", folder="ru_RU_f_IvrvoiceRU"),
    Voice(name="jimenez", language="Spanish", package="prompt-es-co", folder="es"),
    Voice(name="armelle", language="French", package="prompt-fr-armelle", folder="fr"),
    Voice(name="menardi", language="Italian", package="prompt-it-menardi-gsm", folder="it_IT_f_Menardi"),
)
UNHEARD = ("jimenez", "armelle", "menardi")
"""One in each seed."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One prompt of one voice; `prompt` is its name in all languages."""

    wav: bytes
    voice: str
    language: str
    prompt: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="voices to leave out and students to average over")
    options = parser.parse_args()
    warnings.simplefilter("ignore", softlab.OddLabels)  # a voice that is taken for another language looks like that
    clips = [clip for voice in VOICES for clip in read_clips(voice)]
    found: dict[str, list[dict[str, float]]] = {}
    for seed in range(options.seeds):
        for name, figures in run(clips, seed=seed).items():
            found.setdefault(name, []).append(figures)
        print_means(f"Languages, {seed + 1} seeds", found)


def read_clips(voice: Voice) -> list[Clip]:
    """Of its prompts that are long enough, their beginnings; one of several that sound alike."""
    root = files_of(
        f"asterisk-{voice.package}", f"usr/share/asterisk/sounds/{voice.folder}", downloads=FOLDER / "download"
    )
    named = {read_gsm(file): file.relative_to(root).with_suffix("").as_posix() for file in sorted(root.rglob("*.gsm"))}
    return [
        Clip(wav=wav, voice=voice.name, language=voice.language, prompt=prompt) for wav, prompt in named.items() if wav
    ]


def read_gsm(file: Path) -> bytes:
    """As a wav file; empty for one that is short or silent."""
    sound_T, _ = soundfile.read(file, format="RAW", subtype="GSM610", samplerate=RATE, channels=1, dtype="int16")
    if len(sound_T) < LEAST_SECONDS * RATE or np.abs(sound_T).max() < 1000:
        return b""
    wav = BytesIO()
    soundfile.write(wav, sound_T[: int(SECONDS * RATE)], RATE, format="WAV")
    return wav.getvalue()


def run(clips: Sequence[Clip], *, seed: int) -> dict[str, dict[str, float]]:
    """Accuracy in % on prompts that were held out and on an unheard voice, of the teacher and of students by what they
    learnt."""
    parts = split(clips, seed=seed)
    labelled, whole, bare, held_out, unheard = (
        open_prompts(name, parts[name], seed=seed)
        for name in ("labelled", "whole", "unlabelled", "held out", "unheard")
    )
    tests = {"held out": held_out, "unheard": unheard}
    teacher = build(TASK, TEACHER, seed=seed)
    train(TASK, {"teacher": teacher}, labelled, [], epochs=TEACHER_EPOCHS, seed=seed)
    found = {"the teacher": accuracies(dict.fromkeys(STUDENTS, teacher), tests)}
    store = dump(TASK, teacher, bare, seed=seed)
    largest = open_prompts("largest", parts["unlabelled"], labels=largest_classes(TASK, store), seed=seed)
    learnt: dict[str, tuple[Source, list[softlab.Store]]] = {
        f"the {len(labelled)} labels": (labelled, []),
        "the teacher's largest class": (largest, []),
        f"stored labels of {VIEWS} views": (bare, [store]),
        "all labels": (whole, []),
    }
    for name, (source, stores) in learnt.items():
        students = {student: build(TASK, options, seed=seed) for student, options in STUDENTS.items()}
        train(TASK, students, source, stores, epochs=round(EPOCHS * len(bare) / len(source)), seed=seed)
        found[name] = accuracies(students, tests)
        print(f"seed {seed}, {name}, {len(source):,} clips: {found[name]}", flush=True)
    return found


def split(clips: Sequence[Clip], *, seed: int) -> dict[str, list[Clip]]:
    """By voice, and by prompt: what is held out is so in all languages."""
    draw, unheard = random.Random(seed), UNHEARD[seed % len(UNHEARD)]
    prompts = sorted({clip.prompt for clip in clips})
    held_out = set(draw.sample(prompts, round(HELD_OUT * len(prompts))))
    heard = [clip for clip in clips if clip.voice != unheard]
    whole = [clip for clip in heard if clip.prompt not in held_out]
    draw.shuffle(whole)
    labelled = [
        clip
        for voice in dict.fromkeys(clip.voice for clip in whole)
        for clip in [each for each in whole if each.voice == voice][:LABELLED]
    ]
    return {
        "labelled": labelled,
        "unlabelled": [clip for clip in whole if clip not in labelled],
        "whole": whole,
        "held out": [clip for clip in heard if clip.prompt in held_out],
        "unheard": [clip for clip in clips if clip.voice == unheard],
    }


def open_prompts(part: str, clips: Sequence[Clip], *, labels: Sequence[str] | None = None, seed: int) -> Source:
    """With the languages that are spoken, or with `labels`."""
    sounds, keys = [clip.wav for clip in clips], [f"{clip.voice}/{clip.prompt}" for clip in clips]
    spoken = [clip.language for clip in clips]
    return open_clips(TASK, part, sounds=sounds, keys=keys, labels=spoken if labels is None else labels, seed=seed)


def accuracies(students: Mapping[str, torch.nn.Module], tests: Mapping[str, Source]) -> dict[str, float]:
    """In %."""
    return {
        f"{student}, {part}": accuracy(TASK, module, test)
        for student, module in students.items()
        for part, test in tests.items()
    }


if __name__ == "__main__":
    main()

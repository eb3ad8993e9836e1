"""A GRU with 200 labelled recordings of spoken digits teaches small students on 1,800 that nobody has labelled.

    pip install '.[audio]'
    git clone https://github.com/Jakobovski/free-spoken-digit-dataset
    python pipelines/audio/digits.py --recordings free-spoken-digit-dataset/recordings [--seeds 3]

The Free Spoken Digit Dataset (Jakobovski et al., CC BY-SA 4.0): 3,000 recordings of the digits by six voices. Of four
of them 5 recordings of each digit are labelled; all 1,000 of the other two, which nobody has heard before, are what
models are measured on. Each seed has another two. Teacher and students see clips under the same kind of views (cut,
masked, louder or quieter, noisy): those of hard labels are drawn anew in each epoch, stored labels belong to the views
that the teacher heard.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from learning import Task, accuracy, build, dump, largest_classes, open_clips, train

import softlab
from softlab.sources.source import Source

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "predictions"))
from training import print_means

VOICES = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
DIGITS, LABELLED = tuple("0123456789"), 5
TASK = Task(
    folder=Path("runs/audio/digits"),
    classes=DIGITS,
    input=softlab.AudioInput(sample_rate=8_000, mels=40),
    augment=softlab.AudioViews(crop=0.1, gain=6.0, noise=30.0, mask=0.2),
)
TEACHER = softlab.ModelOptions(
    model="softlab:audio_gru", arguments={"num_classes": 10, "width": 192, "num_layers": 2, "dropout": 0.3}
)
STUDENTS = {
    "convolutions": softlab.ModelOptions(model="softlab:audio_conv", arguments={"num_classes": 10, "width": 24}),
    "GRU": softlab.ModelOptions(model="softlab:audio_gru", arguments={"num_classes": 10, "width": 32}),
}
TEACHER_EPOCHS, EPOCHS = 45, 6


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One file."""

    file: Path
    digit: str
    voice: str
    number: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=Path, required=True, help="its folder of wav files")
    parser.add_argument("--seeds", type=int, default=3, help="pairs of voices and students to average over")
    options = parser.parse_args()
    recordings = [read_name(file) for file in sorted(options.recordings.glob("*.wav"))]
    found: dict[str, list[dict[str, float]]] = {}
    for seed in range(options.seeds):
        for name, figures in run(recordings, seed=seed).items():
            found.setdefault(name, []).append(figures)
        print_means(f"Digits by two other voices, {seed + 1} seeds", found)


def read_name(file: Path) -> Recording:
    """Of a file such as 7_jackson_32.wav."""
    digit, voice, number = file.stem.split("_")
    return Recording(file=file, digit=digit, voice=voice, number=int(number))


def run(recordings: Sequence[Recording], *, seed: int) -> dict[str, dict[str, float]]:
    """Accuracy in % on two voices, of the teacher and of students by what they learnt."""
    unheard = [VOICES[(2 * seed + place) % len(VOICES)] for place in range(2)]
    heard = [each for each in recordings if each.voice not in unheard]
    labelled = open_recordings("labelled", [each for each in heard if each.number < LABELLED], seed=seed)
    unlabelled = [each for each in heard if each.number >= LABELLED]
    test = open_recordings("test", [each for each in recordings if each.voice in unheard], seed=seed)
    teacher = build(TASK, TEACHER, seed=seed)
    train(TASK, {"teacher": teacher}, labelled, [], epochs=TEACHER_EPOCHS, seed=seed)
    found = {"the teacher": {name: accuracy(TASK, teacher, test) for name in STUDENTS}}
    bare, whole = (open_recordings(name, part, seed=seed) for name, part in (("bare", unlabelled), ("whole", heard)))
    store = dump(TASK, teacher, bare, seed=seed)
    largest = open_recordings("largest", unlabelled, labels=largest_classes(TASK, store), seed=seed)
    learnt: dict[str, tuple[Source, list[softlab.Store]]] = {
        "the 200 labels": (labelled, []),
        "the teacher's largest class of 1,800": (largest, []),
        "stored labels of 4 views of 1,800": (bare, [store]),
        "all 2,000 labels": (whole, []),
    }
    for name, (source, stores) in learnt.items():
        students = {student: build(TASK, options, seed=seed) for student, options in STUDENTS.items()}
        train(TASK, students, source, stores, epochs=round(EPOCHS * len(bare) / len(source)), seed=seed)
        found[name] = {student: accuracy(TASK, module, test) for student, module in students.items()}
        print(f"seed {seed}, {name}: {found[name]}", flush=True)
    return found


def open_recordings(
    part: str, recordings: Sequence[Recording], *, labels: Sequence[str] | None = None, seed: int
) -> Source:
    """With the digits that are said, or with `labels`."""
    sounds, keys = [each.file.read_bytes() for each in recordings], [each.file.stem for each in recordings]
    said = [each.digit for each in recordings]
    return open_clips(TASK, part, sounds=sounds, keys=keys, labels=said if labels is None else labels, seed=seed)


if __name__ == "__main__":
    main()

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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

import softlab
from softlab.modalities.modality import model_arguments
from softlab.sources.source import Source

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "predictions"))
from training import print_means

FOLDER = Path("runs/audio/digits")
VOICES = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
DIGITS, LABELLED = tuple("0123456789"), 5
INPUT = softlab.AudioInput(sample_rate=8_000, mels=40)
AUGMENT = softlab.AudioViews(crop=0.1, gain=6.0, noise=30.0, mask=0.2)
TEACHER = softlab.ModelOptions(
    model="softlab:audio_gru", arguments={"num_classes": 10, "width": 192, "num_layers": 2, "dropout": 0.3}
)
STUDENTS = {
    "convolutions": softlab.ModelOptions(model="softlab:audio_conv", arguments={"num_classes": 10, "width": 24}),
    "GRU": softlab.ModelOptions(model="softlab:audio_gru", arguments={"num_classes": 10, "width": 32}),
}
VIEWS, TEACHER_EPOCHS, EPOCHS, BATCH = 4, 45, 6, 20


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
    labelled = open_recordings(seed, "labelled", [each for each in heard if each.number < LABELLED])
    unlabelled = [each for each in heard if each.number >= LABELLED]
    test = open_recordings(seed, "test", [each for each in recordings if each.voice in unheard])
    teacher = build(TEACHER, seed=seed)
    train({"teacher": teacher}, labelled, [], epochs=TEACHER_EPOCHS, seed=seed)
    found = {"the teacher": {name: accuracy(teacher, test) for name in STUDENTS}}
    store = dump(teacher, unlabelled, seed=seed)
    largest = open_recordings(seed, "largest", unlabelled, classes=largest_classes(store))
    bare, whole = open_recordings(seed, "bare", unlabelled), open_recordings(seed, "whole", heard)
    steps = EPOCHS * len(bare)
    learnt: dict[str, tuple[Source, list[softlab.Store]]] = {
        "the 200 labels": (labelled, []),
        "the teacher's largest class of 1,800": (largest, []),
        "stored labels of 4 views of 1,800": (bare, [store]),
        "all 2,000 labels": (whole, []),
    }
    for name, (source, stores) in learnt.items():
        students = {student: build(options, seed=seed) for student, options in STUDENTS.items()}
        train(students, source, stores, epochs=round(steps / len(source)), seed=seed)
        found[name] = {student: accuracy(module, test) for student, module in students.items()}
        print(f"seed {seed}, {name}: {found[name]}", flush=True)
    return found


def open_recordings(
    seed: int, part: str, recordings: Sequence[Recording], *, classes: Sequence[int] | None = None
) -> Source:
    """A Parquet file of them, with the digits that are said, or those of `classes`."""
    labels = [each.digit for each in recordings] if classes is None else [DIGITS[number] for number in classes]
    table = {
        "audio": [each.file.read_bytes() for each in recordings],
        "key": [each.file.stem for each in recordings],
        "label": labels,
    }
    file = FOLDER / str(seed) / f"{part}.parquet"
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(table), file)
    options = softlab.SourceOptions(path=str(file), fields={"audio": "audio"}, key_column="key", class_names=DIGITS)
    return softlab.open_source(options, modality="audio")


def build(options: softlab.ModelOptions, *, seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    return softlab.build_model(options, told=model_arguments(INPUT))


def dump(teacher: torch.nn.Module, recordings: Sequence[Recording], *, seed: int) -> softlab.Store:
    """What the teacher says of views of recordings."""
    source, out = open_recordings(seed, "unlabelled", recordings), FOLDER / str(seed) / "store"
    who = softlab.Teacher(module=teacher, name="gru", arguments={}, input=INPUT)
    softlab.dump_teacher(who, source, out, softlab.DumpOptions(views=VIEWS), augment=AUGMENT)
    return softlab.open_store(out)


def largest_classes(store: softlab.Store) -> list[int]:
    """Of each recording's first view."""
    classes: list[int] = store.read(np.arange(len(store))).class_ids_BK[:, 0].tolist()
    return classes


def train(
    students: Mapping[str, torch.nn.Module],
    source: Source,
    stores: Sequence[softlab.Store],
    *,
    epochs: int,
    seed: int,
) -> None:
    """On the stored labels alone; without stores on hard ones, with fresh views."""
    learn = softlab.LearnOptions(
        teachers=softlab.TeachersOptions(alpha=1.0),
        loss=softlab.KlLoss(temperature=2.0),
        optimizer=softlab.OptimizerOptions(learning_rate=3e-3),
    )
    options = softlab.TrainOptions(
        run=softlab.RunOptions(epochs=epochs, batch_size=BATCH, seed=seed),
        log=softlab.LogOptions(track=()),
        learn=learn if stores else softlab.LearnOptions(optimizer=learn.optimizer),
    )
    softlab.train_students(students, source, stores, options, input=INPUT, augment=None if stores else AUGMENT)


def accuracy(module: torch.nn.Module, test: Source) -> float:
    """In %."""
    return 100 * softlab.evaluate_model(module, test, input=INPUT).values["accuracy"]


if __name__ == "__main__":
    main()

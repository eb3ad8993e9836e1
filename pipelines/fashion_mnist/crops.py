"""Must a label be that of the very view? Students of 1,000 images under strong crops, at several lengths.

    python pipelines/fashion_mnist/crops.py [--seeds 3] [--epochs 16 64 192] [--test FOLDER]

A consistent label is what the teacher says about the very crop, a fixed one what it says about the whole image. Runs
the chain of crops.toml once a length and seed; its two stores are made once. Everything is written below runs/crops;
run again, what is finished is not repeated, and what was stopped goes on.
"""

import argparse
import statistics
from pathlib import Path
from typing import Any

from printing import print_table

from softlab.recipes.chain import ChainRecipe
from softlab.recipes.toml import merged, read_toml

RECIPE = Path("pipelines/fashion_mnist/crops.toml")
FOLDER = "runs/crops"
STUDENTS = {
    "fixed/hard": "hard",
    "consistent/hard": "hard, on the stored crops",
    "fixed/t1": "fixed, T = 1",
    "fixed/t4": "fixed, T = 4",
    "consistent/t1": "consistent, T = 1",
    "consistent/t4": "consistent, T = 4",
}
"""What each learns, by the end of its folder."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="chains of each length to average over")
    parser.add_argument("--epochs", type=int, nargs="+", default=[16, 64, 192], help="lengths of training")
    parser.add_argument("--images", type=int, default=1000, help="images to train on; others need another --out")
    parser.add_argument("--test", default="data/fashion_mnist/test", help="images to measure on")
    parser.add_argument("--out", default=FOLDER, help="folder of all that is written")
    options = parser.parse_args()
    columns = [[_run_chain(options, epochs, seed) for seed in range(options.seeds)] for epochs in options.epochs]
    rows = [
        [title, *(_spread([accuracies[student] for accuracies in column]) for column in columns)]
        for student, title in STUDENTS.items()
    ]
    headers = ["labels", *(f"{epochs} epochs" for epochs in options.epochs)]
    print_table(headers, rows, title=f"Accuracy in % after the last epoch, {options.seeds} seeds")


def _run_chain(options: argparse.Namespace, epochs: int, seed: int) -> dict[str, float]:
    """Accuracy in % of each student."""
    folder = f"{options.out}/{epochs}-epochs-seed-{seed}"
    print(f"== {folder}", flush=True)
    table = read_toml(RECIPE)
    changes = {
        "source": {"limit": options.images},
        "valid": {"path": options.test},
        "run": {"epochs": epochs, "seed": seed},
        "log": {"track": []},
    }
    changed = {"common": merged(table["common"], changes), "stage": _moved(table["stage"], options.out, folder)}
    *_, consistent, fixed = ChainRecipe.from_table(changed, where=str(RECIPE)).run()
    results = {"consistent": consistent, "fixed": fixed}
    return {f"{way}/{each.name}": 100 * each.last.values["accuracy"] for way in results for each in results[way]}


def _moved(value: Any, out: str, folder: str) -> Any:
    """The recipe with its stores in `out`, and its students in `folder`."""
    if isinstance(value, dict):
        return {name: _moved(inner, out, folder) for name, inner in value.items()}
    if isinstance(value, list):
        return [_moved(inner, out, folder) for inner in value]
    if not isinstance(value, str):
        return value
    return value.replace(FOLDER, out).replace(f"{out}/students", folder)


def _spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values) if len(values) > 1 else 0:.2f}"


if __name__ == "__main__":
    main()

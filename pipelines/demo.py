"""The main job on real data: dump a teacher once, train two students from the store, see what the labels bought.

    make demo        or: python pipelines/demo.py [--seeds 5]

Everything is written below runs/demo; run again, finished steps are not repeated. Remove that folder to start over.
"""

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path("runs/demo")
RECIPES = Path("pipelines/fashion_mnist")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="training runs to average over")
    seeds = range(parser.parse_args().seeds)
    start = time.perf_counter()
    say("1. The teacher runs once over 10,000 training and 2,000 test images.")
    softlab("dump-teacher", RECIPES / "dump.toml")
    softlab("dump-teacher", RECIPES / "dump.toml", "--source", "data/fashion_mnist/test", "--out", FOLDER / "test.zarr")
    softlab("verify", FOLDER / "train.zarr")
    say("2. Two students and their hard-label baselines train on 1,000 labelled images; the teacher is not run again.")
    for seed in seeds:
        softlab("train-student", RECIPES / "train.toml", "--seed", seed, "--out", FOLDER / f"seed-{seed}")
    say("3. What the stored labels bought: accuracy on the 2,000 test images after the last epoch.")
    print_comparison([json.loads((FOLDER / f"seed-{seed}" / "summary.json").read_text()) for seed in seeds])
    print(f"\nDone in {time.perf_counter() - start:.0f} s.")


def softlab(*arguments: object) -> None:
    """Show a command and run it."""
    command = ["softlab", *map(str, arguments)]
    print(f"\n$ {shlex.join(command)}", flush=True)
    ended = subprocess.run([sys.executable, "-m", *command])
    if ended.returncode != 0:
        sys.exit(ended.returncode)


def say(text: str) -> None:
    print(f"\n== {text}", flush=True)


def print_comparison(runs: list[list[dict[str, object]]]) -> None:
    """Mean and standard deviation over the runs, of each student beside its baseline."""
    accuracies: dict[str, list[float]] = {}
    for run in runs:
        for student in run:
            accuracies.setdefault(str(student["name"]), []).append(100 * student["last"]["values"]["accuracy"])  # type: ignore[index]
    print(f"\n{'student':<10}{'hard labels':>18}{'stored labels':>18}{'gain':>8}   ({len(runs)} seeds)")
    for name, stored in accuracies.items():
        if name + "-hard" in accuracies:
            hard = accuracies[name + "-hard"]
            gain = statistics.mean(stored) - statistics.mean(hard)
            print(f"{name:<10}{spread(hard):>18}{spread(stored):>18}{gain:>+8.2f}")


def spread(values: list[float]) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.2f} +- {deviation:.2f} %"


if __name__ == "__main__":
    main()

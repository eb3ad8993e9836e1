"""How good advice is: its recipe against the best of a search with 60 trials, on three stores.

    python pipelines/fashion_mnist/advise.py [--seeds 3] [--epochs 16] [--images 2000]

All teach the same MLP, by default on 2,000 images: the demo's teacher, all of whose logits or three of them are
stored, and a linear one that was trained on 300 images. A seed changes the student's first weights, the order of its
batches and what the search tries. Both choose by accuracy on the first 1,000 of the demo's test images. The best of 60
is partly luck, so the two recipes are then trained again with five other seeds, and measured on the other 1,000 test
images.
Everything is written below runs/advice; run again, what is finished is not repeated.
"""

import argparse
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from printing import print_table
from torch import nn

import softlab
from softlab.labels.losses import temperature_of
from softlab.sources.source import Source
from softlab.sources.subset import chosen
from softlab.student.trials import Trial

FOLDER, DATA = Path("runs/advice"), Path("data/fashion_mnist")
INPUT = softlab.ImageInput(mean=(0.286,), std=(0.353,))
OF_THE_LINEAR, TO_CHOOSE_BY = 300, 1_000
TRIALS, AGAIN = 60, 5


@dataclass(frozen=True, kw_only=True)
class Data:
    """Images to learn from, to choose a recipe by, and to measure the chosen ones on."""

    train: Source
    choose: softlab.Validation
    measure: softlab.Validation


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Of one store and seed: accuracy in % of advice and of the best of the search."""

    selected: tuple[float, float]
    """On the images that both choose by."""

    again: tuple[float, float]
    """The mean of trainings with other seeds, on images that neither chose by."""

    cost: float
    """Of advice, in runs of the student."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="to average over")
    parser.add_argument("--epochs", type=int, default=16, help="of a whole run")
    parser.add_argument("--images", type=int, default=2_000, help="to learn from")
    given = parser.parse_args()
    data = open_data(given.images)
    stores, found = dump_all(data.train), dict[str, list[Outcome]]()
    for seed in range(given.seeds):
        for name, store in stores.items():
            found.setdefault(name, []).append(compare(data, store, name, epochs=given.epochs, seed=seed))
    heads = [
        "store",
        "advice",
        "best of 60",
        "difference",
        "advice again",
        "best again",
        "difference",
        "runs of advice",
    ]
    rows = [[name, *cells(outcomes)] for name, outcomes in found.items()]
    print_table(
        heads, rows, title=f"Accuracy in %, {given.seeds} seeds, {given.epochs} epochs of {given.images:,} images"
    )


def open_data(images: int) -> Data:
    """Each half of the test images has as many of each class."""
    test = softlab.open_source(softlab.SourceOptions(path=str(DATA / "test")))
    halves = np.split(np.arange(len(test)), [TO_CHOOSE_BY])
    choose, measure = (softlab.Validation(source=chosen(test, half)) for half in halves)
    train = softlab.open_source(softlab.SourceOptions(path=str(DATA / "train"), limit=images))
    return Data(train=train, choose=choose, measure=measure)


def compare(data: Data, store: softlab.Store, name: str, *, epochs: int, seed: int) -> Outcome:
    """Advice and a search, and both recipes once more."""
    student, options, out = partial(make_student, seed), train_options(epochs, seed), FOLDER / name / f"seed-{seed}"
    advice = softlab.advise(student, data.train, [store], options, valid=data.choose, input=INPUT, out=out / "advice")
    tried = softlab.SearchOptions(trials=TRIALS, seed=seed)
    trials = softlab.search(
        student, data.train, [store], options, tried, valid=data.choose, input=INPUT, out=out / "search"
    )
    best = (advice.best, trials[0])
    again = [train_again(data, store, best, epochs, seed=1_000 * (seed + 1) + n, out=out) for n in range(AGAIN)]
    outcome = Outcome(
        selected=(100 * best[0].score, 100 * best[1].score),
        again=(statistics.mean(each[0] for each in again), statistics.mean(each[1] for each in again)),
        cost=advice.cost,
    )
    print(f"{name}, seed {seed}: {recipe_of(best[0])} against {recipe_of(best[1])}, {outcome}", flush=True)
    return outcome


def train_again(
    data: Data, store: softlab.Store, recipes: Sequence[Trial], epochs: int, *, seed: int, out: Path
) -> list[float]:
    """Accuracy in % of students with new weights that learn by these recipes in a new order."""
    results = softlab.train_students(
        {
            f"recipe-{place}": softlab.Student(module=make_student(seed), learn=each.learn)
            for place, each in enumerate(recipes)
        },
        data.train,
        [store],
        train_options(epochs, seed),
        input=INPUT,
        valid=data.measure,
        out=out / f"again-{seed}",
    )
    measured = [result.last for result in results]
    return [100 * each.values["accuracy"] for each in measured if each is not None]


def train_options(epochs: int, seed: int) -> softlab.TrainOptions:
    return softlab.TrainOptions(
        run=softlab.RunOptions(epochs=epochs, batch_size=64, seed=seed),
        log=softlab.LogOptions(track=()),
        learn=softlab.LearnOptions(optimizer=softlab.OptimizerOptions(learning_rate=3e-3)),
    )


def make_student(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return softlab.build_model(softlab.ModelOptions(model="softlab:grey_mlp"))


def recipe_of(trial: Trial) -> str:
    temperature, alpha = temperature_of(trial.learn.loss), trial.learn.teachers.alpha
    return "hard targets alone" if alpha == 0 else f"T={temperature} alpha={alpha}"


def cells(outcomes: Sequence[Outcome]) -> list[str]:
    """Mean and standard deviation over seeds."""
    columns = [
        column
        for pairs in ([each.selected for each in outcomes], [each.again for each in outcomes])
        for column in (*zip(*pairs, strict=True), [ours - theirs for ours, theirs in pairs])
    ]
    return [*map(mean_and_spread, columns), f"{statistics.mean(each.cost for each in outcomes):.1f}"]


def mean_and_spread(values: Sequence[float]) -> str:
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread}"


def dump_all(source: Source) -> Mapping[str, softlab.Store]:
    demo = softlab.ModelOptions(model="softlab:grey_resnet", weights=DATA / "teacher.safetensors")
    teachers = {"all 10 logits": (demo, 10), "3 logits": (demo, 3)}
    stores = {}
    for name, (model, k) in teachers.items():
        teacher = softlab.Teacher(module=softlab.build_model(model), name=name, arguments={}, input=INPUT)
        stores[name] = dump(teacher, source, name, k=k)
    linear = softlab.Teacher(module=train_linear(source), name="linear", arguments={}, input=INPUT)
    return stores | {"a weak teacher": dump(linear, source, "a weak teacher", k=10)}


def train_linear(source: Source) -> nn.Module:
    """On raw pixels, by hard targets."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 10))
    (result,) = softlab.train_students(
        {"linear": module},
        source,
        [],
        softlab.TrainOptions(run=softlab.RunOptions(epochs=30, batch_size=32, max_samples=OF_THE_LINEAR)),
        input=INPUT,
    )
    print(f"weak teacher: training loss {result.train_loss:.3f}")
    return module


def dump(teacher: softlab.Teacher, source: Source, name: str, *, k: int) -> softlab.Store:
    out = FOLDER / name / "train.zarr"
    softlab.dump_teacher(teacher, source, out, softlab.DumpOptions(k=k, temperature=(1.0, 2.0, 4.0)))
    return softlab.open_store(out)


if __name__ == "__main__":
    main()

"""What stored labels are worth: small students on 1,000 images of Fashion-MNIST, and on all 60,000.

    python pipelines/fashion_mnist/make_subset.py --full runs/fashion_mnist_full
    python pipelines/fashion_mnist/quality.py --full runs/fashion_mnist_full

The teacher is the demo's; it was trained on 55,000 images, the students' among them. Temperature and alpha are searched
on images that no student learns from, and accuracy is that on the 10,000 test images. Everything is written below
runs/quality; run again, what is finished is not repeated.
"""

import argparse
import json
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from printing import print_table
from torch import Tensor, nn

from softlab.evaluation.evaluation import Evaluation
from softlab.evaluation.measure import evaluate
from softlab.evaluation.one_model import open_inputs
from softlab.labels.losses import ArgmaxLoss, KlLoss, Tail
from softlab.loading.loader import BatchLoader
from softlab.loading.options import CheckOptions
from softlab.modalities.images.inputs import ImageInput
from softlab.modalities.opening import open_source
from softlab.models.build import ModelOptions, build_model
from softlab.models.device import DeviceOptions
from softlab.sources.options import SourceOptions
from softlab.sources.source import Source
from softlab.store.reader import Store, open_store
from softlab.student.optimizer import OptimizerOptions
from softlab.student.options import LearnOptions, LogOptions, RunOptions, Student, TeachersOptions, TrainOptions
from softlab.student.search import SearchOptions, search
from softlab.student.train import train_students
from softlab.student.validation import Validation
from softlab.teacher.dump import dump_teacher
from softlab.teacher.forward import Teacher
from softlab.teacher.options import DumpOptions

FOLDER = Path("runs/quality")
DATA = Path("data/fashion_mnist")
INPUT = ImageInput(mean=(0.286,), std=(0.353,))
TEMPERATURES = (1.0, 2.0, 4.0, 8.0)
MODELS = {"cnn": "softlab:grey_cnn", "mlp": "softlab:grey_mlp"}
SMALL = RunOptions(epochs=60, batch_size=64)
FULL = RunOptions(epochs=5, batch_size=128)
LEARN = LearnOptions(optimizer=OptimizerOptions(learning_rate=5e-3))
OMITTED = 3
"""The class that one training set lacks: dresses, which have the number of Hinton's omitted digit."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to learn, by what it changes."""

    title: str
    change: Callable[[LearnOptions], LearnOptions]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="runs to average over")
    parser.add_argument("--full", type=Path, required=True, help="folder with all images as Parquet, train and test")
    given = parser.parse_args()
    seeds = range(given.seeds)
    test = open_source(SourceOptions(path=str(given.full / "test")))
    whole = open_source(SourceOptions(path=str(DATA / "train")))
    ten, three = (_dump(whole, FOLDER / f"top-{k}.zarr", k=k) for k in (10, 3))
    chosen = {name: _choose(name, ten) for name in MODELS}
    print(
        "chosen on 2,000 other images:",
        {name: (_temperature(each), each.teachers.alpha) for name, each in chosen.items()},
    )
    few = open_source(SourceOptions(path=str(DATA / "train"), limit=1000))
    lacking = _without_class(OMITTED)
    ways = [
        Way(title="hard labels", change=_with_alpha(0.0)),
        Way(title="all 10 logits", change=lambda learn: learn),
        Way(title="the teacher's first class alone (argmax)", change=lambda learn: replace(learn, loss=ArgmaxLoss())),
    ]
    tails = [
        Way(title="3 logits, exact tail", change=lambda learn: learn),
        Way(title="3 logits, renormalised, teacher alone", change=_with_tail("renormalise")),
        Way(title="3 logits, renormalised, both", change=_with_tail("renormalise_both")),
    ]
    runs = [_run("few", few, ten, ways, chosen, test, seed) for seed in seeds]
    print_accuracies("1,000 images", ways, runs)
    runs = [_run("tails", few, three, tails, chosen, test, seed) for seed in seeds]
    print_accuracies("1,000 images", tails, runs)
    omitted = [
        Way(title="hard labels", change=_with_alpha(0.0)),
        Way(title="stored labels", change=_with_alpha(1.0)),
    ]
    lacked = {name: _choose_by_grid(name, lacking, ten) for name in MODELS}
    print(
        "and without the class:",
        {name: (_temperature(each), each.optimizer.learning_rate) for name, each in lacked.items()},
    )
    runs = [_run("omitted", lacking, ten, omitted, lacked, test, seed) for seed in seeds]
    print_accuracies(f"{len(lacking)} images, none of class {OMITTED}", omitted, runs)
    print_accuracies(f"the same, recall of class {OMITTED}", omitted, runs, of="recall")
    for of in ("raised accuracy", "raised recall"):
        print_accuracies(f"the same with the bias of class {OMITTED} raised", omitted, runs, of=of)
    everything = open_source(SourceOptions(path=str(given.full / "train")))
    all_ten = _dump(everything, FOLDER / "full-top-10.zarr", k=10)
    runs = [_run("full", everything, all_ten, ways[:2], chosen, test, seed, run=FULL) for seed in seeds]
    print_accuracies("60,000 images", ways[:2], runs)


def _with_alpha(alpha: float) -> Callable[[LearnOptions], LearnOptions]:
    return lambda learn: replace(learn, teachers=TeachersOptions(alpha=alpha))


def _with_tail(tail: Tail) -> Callable[[LearnOptions], LearnOptions]:
    return lambda learn: replace(learn, loss=KlLoss(temperature=_temperature(learn), tail=tail))


def _temperature(learn: LearnOptions) -> float | None:
    assert isinstance(learn.loss, KlLoss)
    return learn.loss.temperature


def _options(run: RunOptions, seed: int) -> TrainOptions:
    """Of stores that may hold more samples than are learnt from."""
    check, log = CheckOptions(subset=True), LogOptions(track=())
    return TrainOptions(run=replace(run, seed=seed), check=check, log=log, learn=LEARN)


def _dump(source: Source, out: Path, *, k: int) -> Store:
    weights = DATA / "teacher.safetensors"
    module = build_model(ModelOptions(model="softlab:grey_resnet", weights=weights))
    teacher = Teacher(module=module, name="softlab:grey_resnet", arguments={}, input=INPUT)
    dump_teacher(teacher, source, out, DumpOptions(k=k, temperature=TEMPERATURES))
    return open_store(out)


def _choose(name: str, store: Store) -> LearnOptions:
    """Temperature and alpha with which the student does best on images 1,000 to 3,000."""
    images = pq.read_table(DATA / "train")
    train = _part("search-train", images.slice(0, 1000))
    valid = _part("search-valid", images.slice(1000, 2000))
    trials = search(
        lambda: _build(name, seed=100),
        train,
        [store],
        _options(SMALL, 100),
        SearchOptions(trials=24, alpha=(0.5, 1.0)),
        valid=Validation(source=valid),
        input=INPUT,
        out=FOLDER / f"search-{name}",
    )
    return trials[0].learn


def _choose_by_grid(name: str, source: Source, store: Store) -> LearnOptions:
    """Temperature and learning rate with which stored labels alone do best on images 1,000 to 3,000, in one pass."""
    grid = [
        LearnOptions(
            teachers=TeachersOptions(alpha=1.0),
            loss=KlLoss(temperature=temperature),
            optimizer=OptimizerOptions(learning_rate=rate),
        )
        for temperature in TEMPERATURES
        for rate in (5e-3, 2e-2)
    ]
    students = {
        f"point-{number}": Student(module=_build(name, seed=100), learn=each) for number, each in enumerate(grid)
    }
    valid = _part("search-valid", pq.read_table(DATA / "train").slice(1000, 2000))
    results = train_students(
        students,
        source,
        [store],
        _options(SMALL, 100),
        input=INPUT,
        valid=Validation(source=valid),
        out=FOLDER / f"grid-{name}",
    )
    accuracies = [result.last.values["accuracy"] if result.last else 0.0 for result in results]
    return grid[accuracies.index(max(accuracies))]


def _without_class(number: int) -> Source:
    images = pq.read_table(DATA / "train").slice(0, 1000)
    return _part(f"without-{number}", images.filter(pc.field("label") != number))


def _part(name: str, images: pa.Table) -> Source:
    path = FOLDER / f"{name}.parquet"
    if not path.exists():
        pq.write_table(images, path)
    return open_source(SourceOptions(path=str(path)))


def _run(
    name: str,
    source: Source,
    store: Store,
    ways: list[Way],
    chosen: Mapping[str, LearnOptions],
    test: Source,
    seed: int,
    *,
    run: RunOptions = SMALL,
) -> dict[str, Any]:
    """Every student in every way, in one pass over the data; its evaluation on the test images."""
    path = FOLDER / f"{name}-{seed}.json"
    if not path.exists():
        students = {
            f"{model}-{number}": Student(module=_build(model, seed=seed), learn=way.change(chosen[model]))
            for model in MODELS
            for number, way in enumerate(ways)
        }
        train_students(students, source, [store], _options(run, seed), input=INPUT)
        modules = {name: student.module for name, student in students.items()}
        figures = {name: _figures(each) for name, each in _evaluate(modules, test).items()}
        if name == "omitted":
            raised = {name: _raised(module) for name, module in modules.items()}
            for student, each in _evaluate(raised, test).items():
                figures[student] |= {f"raised {of}": value for of, value in _figures(each).items()}
        path.write_text(json.dumps(figures))
        print(f"{path}: {path.read_text()}", flush=True)
    stored: dict[str, Any] = json.loads(path.read_text())
    return stored


def _evaluate(modules: Mapping[str, nn.Module], test: Source) -> dict[str, Evaluation]:
    loader = _open_inputs(test)
    forwards = {name: _forward(module.eval()) for name, module in modules.items()}
    return evaluate(forwards, loader, per_class=True)


def _open_inputs(source: Source) -> BatchLoader:
    return open_inputs(source, input=INPUT, device=DeviceOptions(), check=CheckOptions())


def _raised(module: nn.Module) -> nn.Module:
    """The student with the bias of the omitted class that is best on images 1,000 to 3,000; Hinton, Vinyals, Dean
    (2015), section 3, chose theirs on the test images."""
    source = _part("search-valid", pq.read_table(DATA / "train").slice(1000, 2000))
    loader = _open_inputs(source)
    biases = [_Raised(module, bias / 4) for bias in range(41)]
    forwards = {str(number): _forward(each.eval()) for number, each in enumerate(biases)}
    found = evaluate(forwards, loader)
    best = max(found, key=lambda number: found[number].values["accuracy"])
    return biases[int(best)]


class _Raised(nn.Module):
    def __init__(self, module: nn.Module, bias: float) -> None:
        super().__init__()
        self.module, self.bias = module, bias

    def forward(self, images_BCHW: Tensor) -> Tensor:
        logits_BC: Tensor = self.module(images_BCHW).clone()
        logits_BC[:, OMITTED] += self.bias
        return logits_BC


def _forward(module: nn.Module) -> Any:
    return lambda batch: module(*batch.inputs[0].inputs.positional)


def _figures(evaluation: Evaluation) -> dict[str, float]:
    assert evaluation.classes is not None
    return {"accuracy": evaluation.values["accuracy"], "recall": evaluation.classes[OMITTED].recall or 0.0}


def _build(name: str, *, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return build_model(ModelOptions(model=MODELS[name]))


def print_accuracies(title: str, ways: list[Way], runs: list[dict[str, Any]], *, of: str = "accuracy") -> None:
    """Mean and standard deviation over the runs, in %."""
    rows = []
    for number, way in enumerate(ways):
        figures = [[100 * run[f"{model}-{number}"][of] for run in runs] for model in MODELS]
        rows.append([way.title, *(_spread(each) for each in figures)])
    print_table(["learnt from", *MODELS], rows, title=f"{title}: {of} in %, {len(runs)} seeds")


def _spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values) if len(values) > 1 else 0:.2f}"


if __name__ == "__main__":
    main()

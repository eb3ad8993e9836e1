"""How many views are enough? Two students on 1,000 images of Fashion-MNIST, the same epochs on every kind of input.

    python pipelines/fashion_mnist/compare_views.py [--seeds 5] [--test FOLDER]

Hard labels, stored labels of 1, 4 and 16 views, and the teacher in the loop all see the same augmentation. Everything
is written below runs/views; run again, finished runs are not repeated.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from printing import print_table
from torch import Tensor, nn

from softlab.evaluation.one_model import evaluate_model
from softlab.labels.losses import KlLoss
from softlab.labels.selection import keep_top_k
from softlab.loading.aligned import Aligned
from softlab.loading.batch import Batch
from softlab.loading.loader import BatchLoader, LoaderOptions
from softlab.loading.order import ShuffledBatches
from softlab.modalities.images.inputs import ImageInput
from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.modalities.images.views.replay import ImageReplay
from softlab.modalities.opening import open_source
from softlab.modalities.views import record_views
from softlab.models.build import ModelOptions, build_model
from softlab.models.device import DeviceOptions, choose_device
from softlab.sources.options import SourceOptions
from softlab.sources.source import Source
from softlab.store.reader import Store, open_store
from softlab.student.learner import Learner
from softlab.student.objective import Objective
from softlab.student.optimizer import OptimizerOptions
from softlab.student.options import LearnOptions, RunOptions, TeachersOptions, TrainOptions
from softlab.student.train import train_students
from softlab.teacher.dump import dump_teacher
from softlab.teacher.forward import Teacher
from softlab.teacher.options import DumpOptions

FOLDER = Path("runs/views")
DATA = Path("data/fashion_mnist")
INPUT = ImageInput(mean=(0.286,), std=(0.353,))
AUGMENT = ViewRecipe(transforms=("RandomCrop(28, padding=2)", "RandomHorizontalFlip()"))
STUDENTS = {"cnn": "softlab:grey_cnn", "mlp": "softlab:grey_mlp"}
RUN = RunOptions(epochs=128, batch_size=64)
TEMPERATURE = 2.0
LOSS = KlLoss(temperature=TEMPERATURE)
LEARN = LearnOptions(teachers=TeachersOptions(alpha=0.9), loss=LOSS, optimizer=OptimizerOptions(learning_rate=5e-3))
NUM_VIEWS = (1, 4, 16)

Way = Callable[[int], dict[str, nn.Module]]
"""From a seed to trained students."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="runs to average over")
    parser.add_argument("--test", default=str(DATA / "test"), help="images to measure on")
    options = parser.parse_args()
    train = open_source(SourceOptions(path=str(DATA / "train"), limit=1000))
    test = open_source(SourceOptions(path=options.test))
    weights = DATA / "teacher.safetensors"
    module = build_model(ModelOptions(model="softlab:grey_resnet", weights=weights)).eval()
    teacher = Teacher(module=module, name="softlab:grey_resnet", arguments={}, input=INPUT)
    stores = {num: _dump(teacher, train, num) for num in NUM_VIEWS}
    ways: dict[str, Way] = {
        "hard labels": lambda seed: _train(train, [], seed),
        **{f"stored, {num} view{'s' * (num > 1)}": _from_store(train, store) for num, store in stores.items()},
        "teacher in the loop": lambda seed: _train_with_teacher(module, train, seed),
    }
    rows = []
    for name, way in ways.items():
        runs = [_measured(name, seed, way, test) for seed in range(options.seeds)]
        spreads = [_spread([run[student] for run in runs]) for student in STUDENTS]
        rows.append([name, *spreads, f"{statistics.median(run['seconds'] for run in runs):.0f}"])
    title = f"Accuracy in % on {len(test):,} test images, mean and deviation of {options.seeds} seeds"
    print_table(["labels", *STUDENTS, "seconds"], rows, title=title)


def _dump(teacher: Teacher, source: Source, num_views: int) -> Store:
    out = FOLDER / f"{num_views}-views.zarr"
    dump_teacher(teacher, source, out, DumpOptions(k=5, temperature=(TEMPERATURE,), views=num_views), augment=AUGMENT)
    return open_store(out)


def _from_store(source: Source, store: Store) -> Way:
    return lambda seed: _train(source, [store], seed)


def _measured(name: str, seed: int, way: Way, test: Source) -> dict[str, float]:
    path = FOLDER / f"{name.replace(' ', '-').replace(',', '')}-{seed}.json"
    if not path.exists():
        start = time.perf_counter()
        students = way(seed)
        found = {"seconds": time.perf_counter() - start}
        for student, module in students.items():
            found[student] = 100 * evaluate_model(module, test, input=INPUT).values["accuracy"]
        path.write_text(json.dumps(found))
        print(f"{name}, seed {seed}: {found}", flush=True)
    measured: dict[str, float] = json.loads(path.read_text())
    return measured


def _train(source: Source, stores: list[Store], seed: int) -> dict[str, nn.Module]:
    """On the stored views; without a store, on a fresh one in every epoch."""
    students = _students(seed)
    augment = None if stores else replace(AUGMENT, seed=seed + 1)
    options = TrainOptions(run=replace(RUN, seed=seed), learn=LEARN)
    train_students(students, source, stores, options, input=INPUT, augment=augment)
    return students


def _train_with_teacher(teacher: nn.Module, source: Source, seed: int) -> dict[str, nn.Module]:
    """The same steps, with the teacher run on every batch: what the stores save."""
    device, students = choose_device("auto"), _students(seed)
    views = record_views(replace(AUGMENT, seed=seed + 1), num_views=1, digest_every=0)
    aligned = Aligned(source=source, inputs=(INPUT,), replay=ImageReplay(views, num_samples=len(source)))
    order = ShuffledBatches(
        num_samples=len(source), batch_size=RUN.batch_size, epochs=RUN.epochs, seed=seed, num_views=None
    )
    objective = Objective(teachers=LEARN.teachers, loss=LEARN.loss)
    learners = [
        Learner(
            name,
            module,
            objective,
            optimizer=LEARN.optimizer,
            device=device,
            place_on=DeviceOptions(),
            num_steps=order.num_steps,
            steps_per_epoch=order.steps_per_epoch,
            seed=seed,
        )
        for name, module in students.items()
    ]
    loader = BatchLoader(aligned, device=device, options=LoaderOptions(), keep_decoded=True)
    for step, batch in enumerate(_with_labels(teacher.to(device), loader, order)):
        for learner in learners:
            learner.step(batch, step=step)
    return students


@torch.inference_mode()
def _say(teacher: nn.Module, images_BCHW: Tensor) -> Tensor:
    logits_BC: Tensor = teacher(images_BCHW)
    return logits_BC


def _with_labels(teacher: nn.Module, loader: BatchLoader, order: ShuffledBatches) -> Iterator[Batch]:
    for batch in loader.load(order):
        on_device = batch.to(loader.device)
        logits_BC = _say(teacher, on_device.inputs[0].inputs.positional[0]).clone()
        yield replace(on_device, labels=keep_top_k(logits_BC, k=logits_BC.shape[1], temperatures=(TEMPERATURE,)))


def _students(seed: int) -> dict[str, nn.Module]:
    modules = {}
    for name, model in STUDENTS.items():
        torch.manual_seed(seed)
        modules[name] = build_model(ModelOptions(model=model))
    return modules


def _spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values) if len(values) > 1 else 0:.2f}"


if __name__ == "__main__":
    main()

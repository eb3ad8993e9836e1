"""Do several views of an image in one batch cost accuracy? Three students on 1,000 images, the same number of steps.

    python pipelines/fashion_mnist/views_per_image.py [--seeds 3] [--epochs 64] [--test FOLDER]

All learn the same 4 stored views of each image (crop, flip); what differs is how many of them share a batch of 64 rows.
The two CNNs differ in their normalisation, over the batch or over each image alone; the MLP has none. Everything is
written below runs/views_per_image; run again, finished runs are not repeated, and what was stopped goes on.
"""

import argparse
import statistics
from pathlib import Path

import torch
from printing import print_table
from torch import nn

import softlab
from softlab.sources.source import Source

DATA = Path("data/fashion_mnist")
INPUT = softlab.ImageInput(mean=(0.286,), std=(0.353,))
AUGMENT = softlab.ViewRecipe(transforms=("RandomCrop(28, padding=2)", "RandomHorizontalFlip()"))
STUDENTS = {"cnn": "softlab:grey_cnn", "cnn_group": "softlab:grey_cnn", "mlp": "softlab:grey_mlp"}
GROUPS = 4
"""Of channels that group normalisation takes together."""

LEARN = softlab.LearnOptions(
    teachers=softlab.TeachersOptions(alpha=0.9),
    loss=softlab.KlLoss(temperature=2.0),
    optimizer=softlab.OptimizerOptions(learning_rate=5e-3),
)
NUM_VIEWS, BATCH_SIZE = 4, 64
SHARING = (1, 2, 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="runs to average over")
    parser.add_argument("--epochs", type=int, default=64, help="length of a run, a multiple of 4")
    parser.add_argument("--images", type=int, default=1000, help="images to train on; others need another --out")
    parser.add_argument("--test", default=str(DATA / "test"), help="images to measure on")
    parser.add_argument("--out", default="runs/views_per_image", help="folder of all that is written")
    options = parser.parse_args()
    source = softlab.open_source(softlab.SourceOptions(path=str(DATA / "train"), limit=options.images))
    valid = softlab.Validation(source=softlab.open_source(options.test))
    store = _dump(source, Path(options.out) / "store.zarr")
    rows = []
    for sharing in SHARING:
        runs = [_train(sharing, seed, source, store, valid, options) for seed in range(options.seeds)]
        accuracies = zip(*runs, strict=True)
        rows.append([f"{sharing} of {NUM_VIEWS}", *map(_spread, accuracies)])
    title = f"Accuracy in % after {options.epochs} epochs, mean and deviation of {options.seeds} seeds"
    print_table(["views in a batch", *STUDENTS], rows, title=title)


def _dump(source: Source, out: Path) -> softlab.Store:
    weights = DATA / "teacher.safetensors"
    module = softlab.build_model(softlab.ModelOptions(model="softlab:grey_resnet", weights=weights)).eval()
    teacher = softlab.Teacher(module=module, name="softlab:grey_resnet", arguments={}, input=INPUT)
    options = softlab.DumpOptions(k=5, temperature=(2.0,), views=NUM_VIEWS)
    softlab.dump_teacher(teacher, source, out, options, augment=AUGMENT)
    return softlab.open_store(out)


def _train(
    sharing: int,
    seed: int,
    source: Source,
    store: softlab.Store,
    valid: softlab.Validation,
    options: argparse.Namespace,
) -> list[float]:
    """Accuracy in % of each student."""
    out = Path(options.out) / f"{options.epochs}-epochs-{sharing}-views-seed-{seed}"
    print(f"== {out}", flush=True)
    run = softlab.RunOptions(epochs=options.epochs, batch_size=BATCH_SIZE, seed=seed, views_per_image=sharing)
    train = softlab.TrainOptions(run=run, learn=LEARN, log=softlab.LogOptions(track=()))
    students = softlab.train_students(_students(seed), source, [store], train, input=INPUT, valid=valid, out=out)
    return [100 * each.last.values["accuracy"] for each in students if each.last is not None]


def _students(seed: int) -> dict[str, nn.Module]:
    modules = {}
    for name, model in STUDENTS.items():
        torch.manual_seed(seed)
        modules[name] = softlab.build_model(softlab.ModelOptions(model=model))
    for name, layer in list(modules["cnn_group"].named_children()):
        if isinstance(layer, nn.BatchNorm2d):
            setattr(modules["cnn_group"], name, nn.GroupNorm(GROUPS, layer.num_features))
    return modules


def _spread(values: tuple[float, ...]) -> str:
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values) if len(values) > 1 else 0:.2f}"


if __name__ == "__main__":
    main()

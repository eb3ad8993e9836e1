"""How good advice is: its recipe against the best of a search with 60 trials, on three stores.

    python pipelines/fashion_mnist/advise.py [--epochs 16]

All teach the same MLP on 2,000 images: the demo's teacher, all of whose logits or three of them are stored, and a
linear one that was trained on 300 images. Both choose by accuracy on the 2,000 test images of the demo. Everything is
written below runs/advice; run again, what is finished is not repeated.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import torch
from printing import print_table
from torch import nn

import softlab
from softlab.sources.source import Source

FOLDER, DATA = Path("runs/advice"), Path("data/fashion_mnist")
INPUT = softlab.ImageInput(mean=(0.286,), std=(0.353,))
IMAGES, OF_THE_LINEAR = 2_000, 300
TRIALS = 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=16, help="of a whole run")
    given = parser.parse_args()
    source = softlab.open_source(softlab.SourceOptions(path=str(DATA / "train"), limit=IMAGES))
    valid = softlab.Validation(source=softlab.open_source(softlab.SourceOptions(path=str(DATA / "test"))))
    options = softlab.TrainOptions(
        run=softlab.RunOptions(epochs=given.epochs, batch_size=64),
        log=softlab.LogOptions(track=()),
        learn=softlab.LearnOptions(optimizer=softlab.OptimizerOptions(learning_rate=3e-3)),
    )
    rows = []
    for name, store in dump_all(source).items():
        advice = softlab.advise(
            make_student, source, [store], options, valid=valid, input=INPUT, out=FOLDER / name / "advice"
        )
        trials = softlab.search(
            make_student,
            source,
            [store],
            options,
            softlab.SearchOptions(trials=TRIALS),
            valid=valid,
            input=INPUT,
            out=FOLDER / name / "search",
        )
        best, cost = advice.best, f"{advice.cost:.1f}"
        rows.append([name, best.result.name, f"{best.score:.2%}", cost, f"{trials[0].score:.2%}", str(TRIALS)])
        print(rows[-1], flush=True)
    heads = ["store", "advice", "accuracy", "runs", "best of the search", "runs"]
    print_table(heads, rows, title="Advice against a search")


def make_student() -> nn.Module:
    torch.manual_seed(0)
    return softlab.build_model(softlab.ModelOptions(model="softlab:grey_mlp"))


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

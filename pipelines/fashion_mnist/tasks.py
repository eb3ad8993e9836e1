"""Two teachers of different tasks and one student: does a net that learns both know each as well as two nets do?

    python pipelines/fashion_mnist/tasks.py [--seeds 3] [--images 5000] [--epochs 20]

The first task is what a garment is, ten classes, taught by the demo's teacher. The second one, `pattern`, is measured
from the pixels of each image: how much neighbouring pixels of the garment differ, plain to patterned, in four groups
that are equally large among the training images. A residual network learns it from all of them, and teaches it. Each
seed is one pass of four students from the same initial weights. Everything is written below runs/tasks; run again, what
is finished is not repeated.
"""

# Shape letters: N images, H height, W width.

import argparse
import statistics
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from PIL import Image
from printing import print_table

import softlab
from softlab.sources.source import Source
from softlab.student.run_folder import StudentResult

DATA = Path("data/fashion_mnist")
INPUT = softlab.ImageInput(mean=(0.286,), std=(0.353,))
SIZES = {"kind": 10, "pattern": 4}
INK = 25
"""Of 255: a pixel below is background."""

K, STUDENT_WIDTH = 4, 16

HEADS = {
    "alone: kind": {"kind": softlab.HeadOptions(alpha=1.0), "pattern": softlab.HeadOptions(weight=0.0)},
    "alone: pattern": {"kind": softlab.HeadOptions(weight=0.0), "pattern": softlab.HeadOptions(alpha=1.0)},
    "together": {name: softlab.HeadOptions(alpha=1.0) for name in SIZES},
    "together, hard labels": {name: softlab.HeadOptions(alpha=0.0) for name in SIZES},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="students of each kind to average over")
    parser.add_argument("--images", type=int, default=5000, help="images that students learn from")
    parser.add_argument("--epochs", type=int, default=20, help="length of their training")
    parser.add_argument("--teacher-epochs", type=int, default=8, help="length of the second teacher's training")
    parser.add_argument("--out", type=Path, default=Path("runs/tasks"), help="folder of all that is written")
    options = parser.parse_args()
    write_tables(options.out)
    teachers = {"kind": kind_teacher(), "pattern": pattern_teacher(options.out, epochs=options.teacher_epochs)}
    stores = {part: [dump(options.out, part, *each) for each in teachers.items()] for part in ("train", "test")}
    found: dict[str, list[dict[str, float]]] = {}
    for seed in range(options.seeds):
        for result in train(options, stores, seed=seed):
            assert result.last is not None, "students are measured on the test images"
            found.setdefault(result.name, []).append(result.last.values)
    rows = [["teachers", *(f"{accuracy_of(options.out, *each):.2f}" for each in teachers.items()), "", ""]]
    rows += [[title, *_cells(found[_name(title)], heads)] for title, heads in HEADS.items()]
    heads = ["", *(f"{name}, %" for name in SIZES), *(f"{name}, KL" for name in SIZES)]
    print_table(heads, rows, title=f"On the test images, {options.images:,} to learn from, {options.seeds} seeds")


def write_tables(out: Path) -> None:
    """The demo's images with both tasks as label columns; where groups begin is told by the training images alone."""
    out.mkdir(parents=True, exist_ok=True)
    tables = {part: pq.read_table(DATA / part) for part in ("train", "test")}
    roughness = {part: np.array(list(map(rough, table["image"].to_pylist()))) for part, table in tables.items()}
    borders = np.quantile(roughness["train"], [0.25, 0.5, 0.75])
    for part, table in tables.items():
        columns = {
            "image": table["image"],
            "kind": table["label"],
            "pattern": pa.array(np.searchsorted(borders, roughness[part])),
        }
        pq.write_table(pa.table(columns), out / f"{part}.parquet")


def rough(image: dict[str, bytes]) -> float:
    """The mean difference of neighbouring pixels that are both of the garment."""
    pixels_HW: NDArray[np.float64] = np.asarray(Image.open(BytesIO(image["bytes"])), dtype=np.float64)
    differences = []
    for one_HW, other_HW in ((pixels_HW[1:], pixels_HW[:-1]), (pixels_HW[:, 1:], pixels_HW[:, :-1])):
        is_garment_HW = (one_HW > INK) & (other_HW > INK)
        differences.append(np.abs(one_HW - other_HW)[is_garment_HW])
    return float(np.concatenate(differences).mean())


def open_part(out: Path, part: str, *columns: str) -> Source:
    path = str(out / f"{part}.parquet")
    return softlab.open_source(softlab.SourceOptions(path=path, label_columns=columns))


def kind_teacher() -> torch.nn.Module:
    return softlab.build_model(softlab.ModelOptions(model="softlab:grey_resnet", weights=DATA / "teacher.safetensors"))


def pattern_teacher(out: Path, *, epochs: int) -> torch.nn.Module:
    torch.manual_seed(0)
    teacher = softlab.build_model(
        softlab.ModelOptions(model="softlab:grey_resnet", arguments={"num_classes": SIZES["pattern"]})
    )
    source = softlab.open_source(softlab.SourceOptions(path=str(out / "train.parquet"), label_column="pattern"))
    run = softlab.RunOptions(epochs=epochs)
    learn = softlab.LearnOptions(optimizer=softlab.OptimizerOptions(learning_rate=3e-3))
    options = softlab.TrainOptions(run=run, learn=learn, log=softlab.LogOptions(track=()))
    folder = out / "teacher"
    softlab.train_students({"teacher": teacher}, source, [], options, input=INPUT, out=folder)
    weights = folder / "teacher" / "last.safetensors"
    return softlab.build_model(
        softlab.ModelOptions(model="softlab:grey_resnet", arguments={"num_classes": SIZES["pattern"]}, weights=weights)
    )


def dump(out: Path, part: str, task: str, teacher: torch.nn.Module) -> softlab.Store:
    store = out / f"{task}-{part}.zarr"
    source = softlab.open_source(softlab.SourceOptions(path=str(out / f"{part}.parquet"), label_column=task))
    named = softlab.Teacher(module=teacher, name=f"{task} teacher", arguments={}, input=INPUT)
    softlab.dump_teacher(named, source, store, softlab.DumpOptions(output=(task,), k=K))
    return softlab.open_store(store)


def accuracy_of(out: Path, task: str, teacher: torch.nn.Module) -> float:
    """In % on the test images."""
    source = softlab.open_source(softlab.SourceOptions(path=str(out / "test.parquet"), label_column=task))
    return 100 * softlab.evaluate_model(teacher, source, input=INPUT).values["accuracy"]


def train(options: argparse.Namespace, stores: dict[str, list[softlab.Store]], *, seed: int) -> list[StudentResult]:
    """One pass over the images, of a student of each kind."""
    students = {
        _name(title): softlab.Student(module=make_student(seed), learn=learn(heads)) for title, heads in HEADS.items()
    }
    first, *others = stores["test"]
    return softlab.train_students(
        students,
        open_part(options.out, "train", *SIZES),
        stores["train"],
        softlab.TrainOptions(
            run=softlab.RunOptions(
                epochs=options.epochs, seed=seed, max_samples=options.images, best_by="kind/accuracy"
            ),
            log=softlab.LogOptions(track=()),
        ),
        input=INPUT,
        valid=softlab.Validation(source=open_part(options.out, "test", *SIZES), store=first, others=tuple(others)),
        out=options.out / f"students-{options.images}-{options.epochs}-seed-{seed}",
    )


def learn(heads: dict[str, softlab.HeadOptions]) -> softlab.LearnOptions:
    return softlab.LearnOptions(head=heads, optimizer=softlab.OptimizerOptions(learning_rate=5e-3))


def make_student(seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    arguments = {"heads": SIZES, "width": STUDENT_WIDTH}
    return softlab.build_model(softlab.ModelOptions(model="softlab:grey_heads", arguments=arguments))


def _name(title: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in title)


def _cells(found: list[dict[str, float]], heads: dict[str, softlab.HeadOptions]) -> list[str]:
    """Of the heads that learn; nothing of the others."""
    figures = [(f"{name}/accuracy", 100) for name in SIZES] + [(f"{name}/{_kl(found, name)}", 1) for name in SIZES]
    return [
        _spread([scale * values[key] for values in found]) if heads[key.split("/")[0]].weight else "-"
        for key, scale in figures
    ]


def _kl(found: list[dict[str, float]], name: str) -> str:
    return "teacher_kl" if f"{name}/teacher_kl" in found[0] else "teacher_bucket_kl"


def _spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values) if len(values) > 1 else 0:.2f}"


if __name__ == "__main__":
    main()

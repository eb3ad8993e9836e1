"""What digits.py and languages.py share: clips as a source, a teacher that is run over views of them, and students."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

import softlab
from softlab.modalities.modality import model_arguments
from softlab.sources.source import Source

VIEWS, BATCH = 4, 20


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is told apart, and how models hear it."""

    folder: Path
    """Of all that is written, a folder a seed."""

    classes: tuple[str, ...]
    input: softlab.AudioInput
    augment: softlab.AudioViews
    """Of the teacher's training, of stored labels, and of students of hard labels."""


def open_clips(
    task: Task, part: str, *, sounds: Sequence[bytes], keys: Sequence[str], labels: Sequence[str], seed: int
) -> Source:
    """Encoded sounds as a Parquet file, with the names of their classes."""
    file = task.folder / str(seed) / f"{part}.parquet"
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"audio": sounds, "key": keys, "label": labels}), file)
    options = softlab.SourceOptions(
        path=str(file), fields={"audio": "audio"}, key_column="key", class_names=task.classes
    )
    return softlab.open_source(options, modality="audio")


def build(task: Task, options: softlab.ModelOptions, *, seed: int) -> torch.nn.Module:
    """A model with the first weights of this seed."""
    torch.manual_seed(seed)
    return softlab.build_model(options, told=model_arguments(task.input))


def dump(task: Task, teacher: torch.nn.Module, source: Source, *, seed: int) -> softlab.Store:
    """The teacher's output for views of clips."""
    out = task.folder / str(seed) / "store"
    who = softlab.Teacher(module=teacher, name="gru", arguments={}, input=task.input)
    softlab.dump_teacher(who, source, out, softlab.DumpOptions(views=VIEWS), augment=task.augment)
    return softlab.open_store(out)


def largest_classes(task: Task, store: softlab.Store) -> list[str]:
    """Names of the teacher's largest class, of each clip's first view."""
    class_ids_N = store.read(np.arange(len(store))).class_ids_BK[:, 0]
    return [task.classes[class_id] for class_id in class_ids_N.tolist()]


def train(
    task: Task,
    students: Mapping[str, torch.nn.Module],
    source: Source,
    stores: Sequence[softlab.Store],
    *,
    epochs: int,
    seed: int,
) -> None:
    """On the stored labels alone; without stores on hard ones, with fresh views."""
    learn = softlab.LearnOptions(
        teachers=softlab.TeachersOptions(alpha=1.0),
        loss=softlab.KlLoss(temperature=2.0),
        optimizer=softlab.OptimizerOptions(learning_rate=3e-3),
    )
    options = softlab.TrainOptions(
        run=softlab.RunOptions(epochs=epochs, batch_size=BATCH, seed=seed),
        log=softlab.LogOptions(track=()),
        learn=learn if stores else softlab.LearnOptions(optimizer=learn.optimizer),
    )
    augment = None if stores else task.augment
    softlab.train_students(students, source, stores, options, input=task.input, augment=augment)


def accuracy(task: Task, module: torch.nn.Module, test: Source) -> float:
    """In %."""
    return 100 * softlab.evaluate_model(module, test, input=task.input).values["accuracy"]

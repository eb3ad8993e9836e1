"""A student's step on stored labels against hard ones and against the teacher in the loop, images on the GPU."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from softlab.bench.student_steps import StudentSteps
from softlab.bench.timing import rates
from softlab.labels.on_device import copy_to
from softlab.loading.batch import Batch
from softlab.modalities.images.inputs import ImageInput
from softlab.models.build import ModelOptions, build_model
from softlab.models.device import choose_device, place
from softlab.models.rows import logits_of
from softlab.store.cache import CacheOptions
from softlab.store.reader import Store, open_store
from softlab.student.optimizer import OptimizerOptions
from softlab.student.options import LearnOptions, RunOptions, TrainOptions
from softlab.teacher.dump import dump_teacher
from tests.benchmarks.gpu.finding import Finding
from tests.benchmarks.gpu.resident import ResidentLoader
from tests.benchmarks.gpu.teachers import dump_options, make_teacher
from tests.benchmarks.gpu.watching import Watched
from tests.benchmarks.gpu.work import RandomImages, Work

HARD, STORED, ONLINE = "hard labels", "stored labels, packed until they are there", "teacher in the loop"
PACKED, UNPACKED = "rows to the GPU, decoded there", "rows decoded before"
AGAINST_HARD, AGAINST_TEACHER = 0.98, 1.5
BATCHES = 8
"""Of the store; a batch of each is read again and again."""

READS = 64


def measure_student(work: Work, folder: Path) -> list[Finding]:
    device, teacher = choose_device(work.device), make_teacher(work.teachers[0])
    source = RandomImages(BATCHES * work.batch_size, side=work.side)
    dump_teacher(teacher, source, folder / "labels", dump_options(work))
    store = open_store(folder / "labels", cache=CacheOptions(dir=folder / "cache"))
    options = TrainOptions(
        run=RunOptions(batch_size=work.batch_size),
        device=work.placed,
        learn=LearnOptions(optimizer=OptimizerOptions(learning_rate=1e-4)),
    )
    steps = StudentSteps(
        "student",
        build_model(ModelOptions(model=work.student)),
        source,
        store,
        options,
        input=ImageInput(channels=3),
        turn_s=work.turn_s,
        make_loader=ResidentLoader,
    )
    module = place(teacher.module.eval(), device, channels_last=True)
    ways = {
        HARD: Watched(steps.hard(), device),
        STORED: Watched(steps.stored(), device),
        ONLINE: Watched(steps.hard(beside=partial(_ask, module, device, work)), device),
    }
    found = rates(ways, rounds=work.rounds)
    hard, stored, online = (found[way] for way in ways)
    return [
        _finding(work, HARD, hard, 1.0, watched=ways[HARD]),
        _finding(work, STORED, stored, stored / hard, at_least=AGAINST_HARD, watched=ways[STORED]),
        _finding(work, ONLINE, online, online / hard, watched=ways[ONLINE]),
        _finding(work, f"{STORED}: to the {ONLINE}", stored, stored / online, at_least=AGAINST_TEACHER),
        *_measure_transfer(store, device, work),
    ]


def _finding(
    work: Work,
    what: str,
    rate: float,
    relative: float,
    *,
    at_least: float | None = None,
    watched: Watched | None = None,
) -> Finding:
    return Finding(
        part=work.student.partition(":")[2],
        what=what,
        rate=rate,
        relative=relative,
        at_least=at_least,
        busy=None if watched is None else watched.busy,
        peak_bytes=None if watched is None else watched.peak_bytes or None,
    )


def _ask(module: nn.Module, device: torch.device, work: Work, batch: Batch) -> Tensor:
    with torch.inference_mode():
        return logits_of(module, batch.inputs[0].inputs, device=device, autocast=work.autocast).known


def _measure_transfer(store: Store, device: torch.device, work: Work) -> list[Finding]:
    random = np.random.default_rng(0)

    def packed() -> Tensor:
        rows = store.read_packed(random.integers(0, store.num_samples, work.batch_size))
        return store.unpack(copy_to(device, torch.from_numpy(rows))).logits_BK

    def unpacked() -> Tensor:
        labels = store.read(random.integers(0, store.num_samples, work.batch_size))
        return labels.with_each(partial(copy_to, device)).logits_BK

    ways = {UNPACKED: partial(_read, unpacked, work), PACKED: partial(_read, packed, work)}
    found = rates(ways, rounds=work.rounds)
    return [Finding(part="labels", what=way, rate=rate, relative=rate / found[UNPACKED]) for way, rate in found.items()]


def _read(read: Callable[[], Tensor], work: Work) -> int:
    """Batch by batch; the last one is waited for."""
    logits_BK = torch.empty(0)
    for _ in range(READS):
        logits_BK = read()
    logits_BK[:1].cpu()
    return READS * work.batch_size

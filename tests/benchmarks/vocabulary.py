"""A loss over a large vocabulary: what it costs beside plain cross-entropy, and what memory it takes by chunks."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from softlab.labels.draws import uniforms
from softlab.labels.lazy_logits import LazyLogits
from softlab.labels.losses import distillation_loss
from softlab.labels.losses.chunked import chunked_loss
from softlab.labels.sampling import keep_sampled
from softlab.labels.soft_labels import SoftLabels
from tests.benchmarks.memory import peak_bytes
from tests.benchmarks.report import Report

# Shape letters: R rows, r of them in a chunk, C classes.

NUM_CLASSES, WIDTH = 49_152, 576
RESOLUTION = 16
LossOfRows = Callable[[Tensor, slice], Tensor]


def bench_vocabulary(report: Report, folder: Path, *, num_rows: int, rounds: int) -> None:
    """Forward and backward of the output layer and the loss; all ways take turns."""
    steps = {title: step(num_rows) for title, step in STEPS.items()}
    seconds: dict[str, list[float]] = {title: [] for title in steps}
    for _ in range(rounds + 1):
        for title, step in steps.items():
            start = time.perf_counter()
            step()
            seconds[title].append(time.perf_counter() - start)
    best = {title: min(each[1:]) for title, each in seconds.items()}
    plain = best[PLAIN]
    memory = {title: peak_bytes(partial(_run, title), folder, num_rows) for title in steps}
    nothing = peak_bytes(_prepare, folder, num_rows)
    report.section(
        "Losses over a large vocabulary",
        f"One step of an output layer of {WIDTH} numbers to {NUM_CLASSES:,} classes and a loss, {num_rows:,} rows, "
        f"float32: seconds, the best of {rounds} turns, and MB of memory at its peak beyond inputs and libraries. "
        f"Sampled rows are of resolution {RESOLUTION}.",
        ["step", "seconds", f"to {PLAIN}", "MB"],
        [
            [title, f"{best[title]:.2f}", f"{best[title] / plain:.2f}", f"{(memory[title] - nothing) / 1e6:,.0f}"]
            for title in steps
        ],
    )


def _rows(num_rows: int) -> tuple[LazyLogits, SoftLabels, Tensor]:
    """A student, sampled rows of a teacher like it, and the classes that are right."""
    generator = torch.Generator().manual_seed(0)
    hidden, weight_CD = (torch.randn(rows, WIDTH, generator=generator) for rows in (num_rows, NUM_CLASSES))
    teacher = LazyLogits(hidden=hidden, weight_CD=weight_CD, scale=WIDTH**-0.5 * 4)
    numbers_R = torch.arange(num_rows)
    uniforms_R2 = uniforms(0, view=0, samples_R=numbers_R, units_R=torch.zeros_like(numbers_R))
    labels = keep_sampled(teacher, resolution=RESOLUTION, uniforms_R2=uniforms_R2)
    student = LazyLogits(hidden=hidden.requires_grad_(), weight_CD=weight_CD.requires_grad_(), scale=WIDTH**-0.5)
    return student, labels, numbers_R % NUM_CLASSES


def _step(num_rows: int, *, is_chunked: bool, is_sampled: bool) -> Callable[[], None]:
    student, labels, targets_R = _rows(num_rows)

    def of_sample(logits_rC: Tensor, rows: slice) -> Tensor:
        part = labels.with_each(lambda each: each[rows])
        return distillation_loss(logits_rC, part, temperature=1.0) * (len(part) / num_rows)

    def of_targets(logits_rC: Tensor, rows: slice) -> Tensor:
        return functional.cross_entropy(logits_rC, targets_R[rows], reduction="sum") / num_rows

    loss_of_rows: LossOfRows = of_sample if is_sampled else of_targets

    def step() -> None:
        student.hidden.grad = student.weight_CD.grad = None
        loss = chunked_loss(student, loss_of_rows) if is_chunked else loss_of_rows(student.whole(), slice(0, num_rows))
        loss.backward()  # type: ignore[no-untyped-call]

    return step


PLAIN = "cross-entropy, all rows at once"
STEPS: dict[str, Callable[[int], Callable[[], None]]] = {
    PLAIN: partial(_step, is_chunked=False, is_sampled=False),
    "cross-entropy, by chunks": partial(_step, is_chunked=True, is_sampled=False),
    "sampled kl, all rows at once": partial(_step, is_chunked=False, is_sampled=True),
    "sampled kl, by chunks": partial(_step, is_chunked=True, is_sampled=True),
}


def _run(title: str, path: Path, num_rows: int) -> None:
    STEPS[title](num_rows)()


def _prepare(path: Path, num_rows: int) -> None:
    _rows(num_rows)

"""A loss over a large vocabulary: what it costs beside plain cross-entropy, and what memory it takes by chunks."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from softlab.bench.timing import rates
from softlab.labels.draws import uniforms
from softlab.labels.lazy_logits import LazyLogits
from softlab.labels.losses import distillation_loss
from softlab.labels.losses.chunked import chunked_loss
from softlab.labels.sampling import keep_sampled
from tests.benchmarks.memory import peak_bytes
from tests.benchmarks.report import Report

# Shape letters: R rows, r of them in a chunk, C classes.

NUM_CLASSES, WIDTH = 49_152, 576
RESOLUTION = 16
CPU = torch.device("cpu")
LossOfRows = Callable[[Tensor, slice], Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """Of an output layer and its rows."""

    num_rows: int
    num_classes: int = NUM_CLASSES
    width: int = WIDTH
    device: torch.device = CPU
    dtype: torch.dtype = torch.float32


def bench_vocabulary(report: Report, folder: Path, *, num_rows: int, rounds: int, only_ratios: bool = False) -> None:
    """Forward and backward of the output layer and the loss; all ways take turns."""
    sizes = Sizes(num_rows=num_rows)
    found = rates({title: _counted(step(sizes), num_rows) for title, step in STEPS.items()}, rounds=rounds)
    for title in STEPS:
        if title != PLAIN:
            report.ratio(f"rows a second of {title}, to {PLAIN}", found[title] / found[PLAIN])
    if not only_ratios:
        _report_memory(report, found, folder, num_rows=num_rows, rounds=rounds)


def _report_memory(report: Report, found: dict[str, float], folder: Path, *, num_rows: int, rounds: int) -> None:
    memory = {title: peak_bytes(partial(_run, title), folder, num_rows) for title in STEPS}
    nothing = peak_bytes(_prepare, folder, num_rows)
    report.section(
        "Losses over a large vocabulary",
        f"One step of an output layer of {WIDTH} numbers to {NUM_CLASSES:,} classes and a loss, {num_rows:,} rows, "
        f"float32: seconds, the median of {rounds} turns, and MB of memory at its peak beyond inputs and libraries. "
        f"Sampled rows are of resolution {RESOLUTION}.",
        ["step", "seconds", f"to {PLAIN}", "MB"],
        [
            [
                title,
                f"{num_rows / found[title]:.2f}",
                f"{found[PLAIN] / found[title]:.2f}",
                f"{(memory[title] - nothing) / 1e6:,.0f}",
            ]
            for title in STEPS
        ],
    )


def make_rows(sizes: Sizes) -> tuple[LazyLogits, LazyLogits, Tensor]:
    """A teacher, a student like it, and random numbers to sample the teacher's rows by."""
    generator = torch.Generator(sizes.device).manual_seed(0)
    hidden, weight_CD = (
        torch.randn(rows, sizes.width, generator=generator, device=sizes.device).to(sizes.dtype)
        for rows in (sizes.num_rows, sizes.num_classes)
    )
    scale = sizes.width**-0.5
    teacher = LazyLogits(hidden=hidden, weight_CD=weight_CD, scale=scale * 4)
    numbers_R = torch.arange(sizes.num_rows, device=sizes.device)
    uniforms_R2 = uniforms(0, view=0, samples_R=numbers_R, units_R=torch.zeros_like(numbers_R))
    student = LazyLogits(
        hidden=hidden.clone().requires_grad_(), weight_CD=weight_CD.clone().requires_grad_(), scale=scale
    )
    return teacher, student, uniforms_R2


def _step(sizes: Sizes, *, is_chunked: bool, is_sampled: bool) -> Callable[[], None]:
    teacher, student, uniforms_R2 = make_rows(sizes)
    labels = keep_sampled(teacher, resolution=RESOLUTION, uniforms_R2=uniforms_R2)
    targets_R = torch.arange(sizes.num_rows, device=sizes.device) % sizes.num_classes

    def of_sample(logits_rC: Tensor, rows: slice) -> Tensor:
        part = labels.with_each(lambda each: each[rows])
        return distillation_loss(logits_rC, part, temperature=1.0) * (len(part) / sizes.num_rows)

    def of_targets(logits_rC: Tensor, rows: slice) -> Tensor:
        return functional.cross_entropy(logits_rC, targets_R[rows], reduction="sum") / sizes.num_rows

    loss_of_rows: LossOfRows = of_sample if is_sampled else of_targets

    def step() -> None:
        all_rows = slice(0, sizes.num_rows)
        loss = chunked_loss(student, loss_of_rows) if is_chunked else loss_of_rows(student.whole(), all_rows)
        loss.backward()  # type: ignore[no-untyped-call]
        student.hidden.grad = student.weight_CD.grad = None

    return step


PLAIN = "cross-entropy, all rows at once"
STEPS: dict[str, Callable[[Sizes], Callable[[], None]]] = {
    PLAIN: partial(_step, is_chunked=False, is_sampled=False),
    "cross-entropy, by chunks": partial(_step, is_chunked=True, is_sampled=False),
    "sampled kl, all rows at once": partial(_step, is_chunked=False, is_sampled=True),
    "sampled kl, by chunks": partial(_step, is_chunked=True, is_sampled=True),
}


def _counted(step: Callable[[], None], num_rows: int) -> Callable[[], int]:
    def run() -> int:
        step()
        return num_rows

    return run


def _run(title: str, path: Path, num_rows: int) -> None:
    STEPS[title](Sizes(num_rows=num_rows))()


def _prepare(path: Path, num_rows: int) -> None:
    make_rows(Sizes(num_rows=num_rows))

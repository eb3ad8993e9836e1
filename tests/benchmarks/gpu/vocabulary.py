"""A large vocabulary on the GPU: sampling it, and losses over it, by chunks and with all logits at once."""

# Shape letters: R rows, C classes.

from collections.abc import Callable
from pathlib import Path

import torch

from softlab.bench.timing import rates
from softlab.labels.sampling import keep_sampled
from softlab.models.device import choose_device
from tests.benchmarks.gpu.finding import Finding
from tests.benchmarks.gpu.watching import Watched
from tests.benchmarks.gpu.work import Work
from tests.benchmarks.vocabulary import PLAIN, RESOLUTION, STEPS, Sizes, make_rows

ALL, CHUNKS = "sampling, all logits at once", "sampling, by chunks"


def measure_vocabulary(work: Work, folder: Path) -> list[Finding]:
    """Rows a second, and the GPU's memory at its peak beyond hidden states and weights."""
    device = choose_device(work.device)
    sizes = Sizes(
        num_rows=work.num_rows,
        num_classes=work.num_classes,
        width=work.width,
        device=device,
        dtype=torch.float32 if work.autocast == "none" else torch.bfloat16,
    )
    losses = {title: step(sizes) for title, step in STEPS.items()}
    return [
        *_findings(_selections(sizes), sizes, first=ALL, rounds=work.rounds),
        *_findings(losses, sizes, first=PLAIN, rounds=work.rounds),
    ]


def _selections(sizes: Sizes) -> dict[str, Callable[[], None]]:
    teacher, _, uniforms_R2 = make_rows(sizes)

    def sample_all() -> None:
        keep_sampled(teacher.whole(), resolution=RESOLUTION, uniforms_R2=uniforms_R2)

    def sample_chunks() -> None:
        keep_sampled(teacher, resolution=RESOLUTION, uniforms_R2=uniforms_R2)

    return {ALL: sample_all, CHUNKS: sample_chunks}


def _findings(ways: dict[str, Callable[[], None]], sizes: Sizes, *, first: str, rounds: int) -> list[Finding]:
    watched = {title: Watched(_counted(way, sizes), sizes.device) for title, way in ways.items()}
    found = rates(watched, rounds=rounds)
    return [
        Finding(
            part=f"{sizes.num_classes:,} classes",
            what=title,
            rate=found[title],
            relative=found[title] / found[first],
            busy=each.busy,
            peak_bytes=each.peak_bytes or None,
        )
        for title, each in watched.items()
    ]


def _counted(way: Callable[[], None], sizes: Sizes) -> Callable[[], int]:
    def run() -> int:
        way()
        if sizes.device.type == "cuda":
            torch.cuda.synchronize(sizes.device)
        return sizes.num_rows

    return run

"""The parts of what is done on a GPU, each with the seconds that it may take, within the minutes that there are."""

import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from softlab.bench.timing import Ratio
from tests.benchmarks.gpu.budget import OutOfTime, at_most
from tests.benchmarks.gpu.finding import HEADERS, Finding
from tests.benchmarks.gpu.language import measure_language_model
from tests.benchmarks.gpu.students import measure_student
from tests.benchmarks.gpu.suite import run_suite
from tests.benchmarks.gpu.teachers import measure_teacher
from tests.benchmarks.gpu.vocabulary import measure_vocabulary
from tests.benchmarks.gpu.watching import why_unknown
from tests.benchmarks.gpu.work import Work
from tests.benchmarks.report import Report

MINUTES = 8.0
SUITE_S = 150.0

Measure = Callable[[Work, Path], list[Finding]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Something that is done on the GPU."""

    measure: Measure
    seconds: float
    """Which it may take; then it is stopped."""


def parts_of(work: Work) -> dict[str, Part]:
    """By name, in their order: a teacher's is its own."""
    found = {"tests": Part(measure=partial(run_suite, seconds=SUITE_S - 10), seconds=SUITE_S)}
    for model in work.teachers:
        found[model.partition(":")[2]] = Part(measure=partial(measure_teacher, model), seconds=80)
    return found | {
        "student": Part(measure=measure_student, seconds=70),
        "vocabulary": Part(measure=measure_vocabulary, seconds=40),
        "language": Part(measure=measure_language_model, seconds=50),
    }


def measure_parts(work: Work, *, only: Sequence[str] | None = None, minutes: float = MINUTES) -> Iterator[Finding]:
    """What each part found, one after the other. A part that no longer fits into the minutes, that isn't done in time
    or that fails is a line that says so, and the others go on."""
    end = time.monotonic() + 60 * minutes
    for name, part in parts_of(work).items():
        if only is not None and name not in only:
            continue
        left = end - time.monotonic()
        if part.seconds > left:
            yield Finding(part=name, what=f"left out: may take {part.seconds:.0f} s, and {max(left, 0):.0f} s are left")
            continue
        yield from _measured(name, part, work)


def _measured(name: str, part: Part, work: Work) -> list[Finding]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        try:
            with at_most(part.seconds):
                return part.measure(work, Path(folder))
        except OutOfTime as error:
            return [Finding(part=name, what=str(error), has_failed=True)]
        except Exception as error:  # on hardware that nobody has tried, what works is to be seen all the same
            traceback.print_exc(file=sys.stderr)
            reason = str(error).strip().partition("\n")[0]
            return [Finding(part=name, what=f"failed: {type(error).__name__}: {reason}", has_failed=True)]
        finally:
            _give_memory_back(work)


def _give_memory_back(work: Work) -> None:
    if work.is_on_gpu:
        torch.cuda.empty_cache()


def show(report: Report, findings: Sequence[Finding], work: Work) -> None:
    """One table; bars also among those of the report."""
    for each in findings:
        if each.at_least is not None and each.relative is not None:
            report.bar(f"on a GPU: {each.part}: {each.what}", each.relative, at_least=each.at_least)
        elif isinstance(each.relative, Ratio):
            report.ratio(f"on a GPU: {each.part}: {each.what}", each.relative)
    unknown = why_unknown() if work.is_on_gpu else None
    report.section(
        "On a GPU",
        f"Random weights, {work.num_images:,} images of {work.side} px, batches of {work.batch_size}, {work.autocast}, "
        f"channels last; {work.num_rows:,} rows over {work.num_classes:,} classes; images, tokens or rows a second: "
        f"median of {work.rounds} rounds that took turns. Relative: to the first line of its kind, which has 1."
        + ("" if unknown is None else f" {unknown[0].upper()}{unknown[1:]}."),
        HEADERS,
        [each.cells() for each in findings],
    )


def bench_on_gpu(report: Report, *, work: Work | None = None, minutes: float = MINUTES) -> None:
    """All but the tests."""
    work = work or Work()
    only = [name for name in parts_of(work) if name != "tests"]
    show(report, list(measure_parts(work, only=only, minutes=minutes)), work)

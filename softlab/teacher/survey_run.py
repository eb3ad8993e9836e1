"""A teacher's whole output for samples from all over a source, for as long as there is time."""

# Shape letters: B rows in a batch, N rows surveyed, R rows of an output, S samples looked at.

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from softlab.errors import TeacherError
from softlab.indices import SourceIndex
from softlab.labels.lazy_logits import LazyLogits
from softlab.loading.aligned import Aligned
from softlab.loading.loader import BatchLoader, LoaderOptions
from softlab.loading.order import RowIndices
from softlab.models.rows import OutputRows
from softlab.teacher.forward import TeacherOutput, TeacherRun, TokensRead, WholeOutput, keep
from softlab.teacher.options import DumpOptions
from softlab.teacher.overflow import whole_mended
from softlab.teacher.selections import Drawn, Selections

SURVEYED_SAMPLES = 2048
SURVEYED_SECONDS = 30.0
"""By default: of a slow teacher, or data that are slow to read, fewer samples are surveyed."""

FIRST_SAMPLES = 8
"""Run first, to learn how long a sample takes."""

SURVEYED_BYTES = 256 << 20
"""Of logits and features held at once: where they are large, fewer samples are surveyed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SurveyProgress:
    """How far a survey is."""

    done: int
    """Samples."""

    total: int
    note: str
    unit = "samples"


OnSurvey = Callable[[SurveyProgress], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Surveyed:
    """The teacher's whole output for the surveyed samples, on the host."""

    whole: WholeOutput
    looked_at_S: NDArray[np.int64]
    """Their source indices."""

    seconds: float
    is_cut_short: bool

    @property
    def num_samples(self) -> int:
        return self.whole.num_samples

    @property
    def most_units(self) -> int | None:
        units = self.whole.with_units
        return None if units is None or units.counts_B is None else int(units.counts_B.max())

    def keep(self, selections: Selections, options: DumpOptions) -> TeacherOutput:
        return keep(self.whole, selections=selections, options=options)


def run_survey(
    run: TeacherRun, aligned: Aligned, options: DumpOptions, *, seconds: float, on_progress: OnSurvey | None
) -> Surveyed:
    """Each size of a batch is run once before it counts, because the first forward pass of a model takes longer than
    the others; but not where a whole batch would take much of the time."""
    workers = LoaderOptions(workers=options.device.workers)
    with closing(BatchLoader(aligned, device=run.device, options=workers, keep_workers=True)) as loader:
        return _survey(loader, run, options, seconds=seconds, on_progress=on_progress)


def _survey(
    loader: BatchLoader, run: TeacherRun, options: DumpOptions, *, seconds: float, on_progress: OnSurvey | None
) -> Surveyed:
    begun = time.perf_counter()
    num_samples = len(loader.aligned.source)
    total = min(SURVEYED_SAMPLES, num_samples)
    spread_N = np.linspace(0, num_samples - 1, total).astype(np.int64)

    def tell(done: int) -> None:
        if on_progress is not None:
            on_progress(SurveyProgress(done=done, total=total, note="surveying"))

    def run_on(parts: Sequence[NDArray[np.int64]]) -> Iterator[WholeOutput]:
        order = [RowIndices(SourceIndex(part), np.zeros_like(part)) for part in parts]
        with closing(loader.load(order)) as batches:
            for batch in batches:
                yield whole_mended(run, batch).on_host()

    tell(0)
    size = _choose_size(run_on, spread_N, options, seconds=seconds)
    num_parts = -(-total // size)
    firsts = np.random.default_rng(0).permutation(num_parts)
    parts = [spread_N[first::num_parts] for first in firsts]  # all from all over, as the time may end
    if size == options.batch_size:
        list(run_on(parts[:1]))
    start, held_bytes, done, is_late = time.perf_counter(), 0, 0, False
    found: list[WholeOutput] = []
    for output in run_on(parts):
        found.append(output)
        held_bytes += sum(rows.known.nbytes for rows in output.all_rows.values())
        done += output.num_samples
        tell(done)
        is_late = time.perf_counter() - begun > seconds
        if held_bytes > SURVEYED_BYTES or is_late:
            break
    spent = time.perf_counter() - start
    whole = _join(found)
    may_lack = options.has_valid or options.selection == "sampled"
    finite = [*whole.values.values(), *([] if may_lack else whole.logits.values())]
    if not all(bool(each.known.isfinite().all()) for each in finite):
        raise TeacherError(
            "the teacher's outputs are NaN or infinite for some samples. Check its weights and inputs; logits of -inf, "
            "of classes that a row doesn't have, are kept with `dump.masked = true`."
        )
    return Surveyed(
        whole=whole,
        looked_at_S=np.concatenate(parts)[:done],
        seconds=spent,
        is_cut_short=is_late and done < total,
    )


def _choose_size(
    run_on: Callable[[Sequence[NDArray[np.int64]]], Iterator[WholeOutput]],
    spread_N: NDArray[np.int64],
    options: DumpOptions,
    *,
    seconds: float,
) -> int:
    """Of a batch: that of the dump, or a smaller one where eight of those would take longer than there is."""
    few = spread_N[:FIRST_SAMPLES]
    for _ in range(2):
        start = time.perf_counter()
        list(run_on([few]))
        spent = time.perf_counter() - start
        if spent > seconds / 8:
            break
    return min(options.batch_size, max(int(seconds / 8 / (spent / len(few))), 1))


def _join(parts: Sequence[WholeOutput]) -> WholeOutput:
    def joined(rows: Sequence[OutputRows]) -> OutputRows:
        counts = [each.counts_B for each in rows if each.counts_B is not None]
        positions = [each.positions_R for each in rows if each.positions_R is not None]
        return OutputRows(
            rows=_join_rows([each.rows for each in rows]),
            counts_B=torch.cat(counts) if counts else None,
            positions_R=torch.cat(positions) if positions else None,
        )

    return WholeOutput(
        num_samples=sum(part.num_samples for part in parts),
        logits={name: joined([part.logits[name] for part in parts]) for name in parts[0].logits},
        values={name: joined([part.values[name] for part in parts]) for name in parts[0].values},
        read=_join_read([part.read for part in parts if part.read is not None]),
        drawn=_join_drawn([part.drawn for part in parts if part.drawn is not None]),
        num_redone=sum(part.num_redone for part in parts),
    )


def _join_rows(rows: Sequence[Tensor | LazyLogits]) -> Tensor | LazyLogits:
    lazy = [each for each in rows if isinstance(each, LazyLogits)]
    if lazy:
        return replace(lazy[0], hidden=torch.cat([each.hidden for each in lazy]))
    return torch.cat([each for each in rows if isinstance(each, Tensor)])


def _join_read(parts: Sequence[TokensRead]) -> TokensRead | None:
    ids, counts = [part.ids_E for part in parts], [part.counts_B for part in parts]
    return TokensRead(ids_E=torch.cat(ids), counts_B=torch.cat(counts)) if parts else None


def _join_drawn(parts: Sequence[Drawn]) -> Drawn | None:
    return Drawn(source_B=torch.cat([each.source_B for each in parts]), view=0) if parts else None

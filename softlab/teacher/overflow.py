"""Rows that overflow under autocast: they are run again in float32, those alone, so that one overflow costs no dump."""

# Shape letters: B samples in a batch, R rows of an output (B, or more with units).

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from softlab.amounts import format_count
from softlab.errors import RedoneInFloat32
from softlab.labels.lazy_logits import LazyLogits
from softlab.labels.soft_labels import SoftLabels
from softlab.loading.batch import Batch
from softlab.models.rows import OutputRows
from softlab.teacher.forward import OutputOnHost, Run, TeacherRun, WholeOutput, keep
from softlab.teacher.options import DumpOptions
from softlab.teacher.selections import Sampling, Selections, TopK


def run_batches(run: Run, batches: Iterable[Batch], *, selections: Selections) -> Iterator[tuple[Batch, OutputOnHost]]:
    """What is kept of each batch, on its way to the host. Under autocast a batch is looked at when the next one is on
    its way, so that the device has work while it is waited for."""
    before: tuple[Batch, OutputOnHost] | None = None
    for batch in batches:
        begun = batch, run.run(batch, selections=selections).start_to_host()
        if not (isinstance(run, TeacherRun) and run.may_overflow):
            yield begun
            continue
        if before is not None:
            yield before[0], _mended(run, *before, selections=selections)
        before = begun
    if before is not None and isinstance(run, TeacherRun):
        yield before[0], _mended(run, *before, selections=selections)


def tell_redone(count: int, options: DumpOptions) -> None:
    """Warns with RedoneInFloat32."""
    warnings.warn(
        f"{format_count(count, 'row')} of the teacher overflowed in {options.device.autocast}: only those were run "
        f"again in float32. With `device.autocast = none` all rows are.",
        RedoneInFloat32,
        stacklevel=3,
    )


def whole_mended(run: TeacherRun, batch: Batch, *, compiled: bool = True) -> WholeOutput:
    """All rows of a batch, on the device, which is waited for."""
    whole = run.whole(batch, compiled=compiled)
    if not run.may_overflow:
        return whole
    is_sampled = run.options.selection == "sampled"
    least = dict.fromkeys(whole.logits, Sampling(resolution=1) if is_sampled else TopK(k=1))
    overflowed_B = ~keep(whole, selections=least, options=run.options).is_finite_B
    if not overflowed_B.any():
        return whole
    return _joined(whole, run.whole(batch, compiled=False, autocast="none"), overflowed_B)


@torch.inference_mode()
def _mended(run: TeacherRun, batch: Batch, output: OutputOnHost, *, selections: Selections) -> OutputOnHost:
    ours = output.wait()
    redone_B = ~ours.is_finite_B
    if not redone_B.any():
        return output
    whole = run.whole(batch, compiled=False, autocast="none")
    again = keep(whole, selections=selections, options=run.options).start_to_host().wait()
    redone_R = _of_rows(redone_B, ours.counts_B)
    mended = replace(
        again,
        labels={
            name: _joined_labels(labels, again.labels[name], redone_R if name in ours.with_units else redone_B)
            for name, labels in ours.labels.items()
        },
        values={
            name: _chosen(redone_R if name in ours.with_units else redone_B, again.values[name], values)
            for name, values in ours.values.items()
        },
        is_finite_B=again.is_finite_B | ours.is_finite_B,
        redone_B=redone_B,
    )
    return mended.start_to_host()


def _joined_labels(ours: SoftLabels, theirs: SoftLabels, redone_R: Tensor) -> SoftLabels:
    others = iter(theirs.tensors())
    return ours.with_each(lambda tensor: _chosen(redone_R, next(others), tensor))


@torch.inference_mode()
def _joined(ours: WholeOutput, theirs: WholeOutput, redone_B: Tensor) -> WholeOutput:
    def joined(one: OutputRows, two: OutputRows) -> OutputRows:
        chosen = _chosen(_of_rows(redone_B, one.counts_B), two.known, one.known)
        return replace(one, rows=replace(one.rows, hidden=chosen) if isinstance(one.rows, LazyLogits) else chosen)

    def of_each(one: dict[str, OutputRows], two: dict[str, OutputRows]) -> dict[str, OutputRows]:
        return {name: joined(rows, two[name]) for name, rows in one.items()}

    return replace(
        ours,
        logits=of_each(ours.logits, theirs.logits),
        values=of_each(ours.values, theirs.values),
        num_redone=int(redone_B.sum()),
    )


def _of_rows(redone_B: Tensor, counts_B: Tensor | None) -> Tensor:
    return redone_B if counts_B is None else torch.repeat_interleave(redone_B, counts_B)


def _chosen(redone_R: Tensor, theirs: Tensor, ours: Tensor) -> Tensor:
    return torch.where(redone_R.reshape(-1, *[1] * (theirs.ndim - 1)), theirs, ours)

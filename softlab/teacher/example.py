"""What the teacher gives for some samples, which a plan is made from: shapes, classes, units, the step of a coding."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from softlab.errors import TeacherError
from softlab.indices import SourceIndex
from softlab.loading.aligned import Aligned
from softlab.loading.batch import Batch
from softlab.loading.decoded import DECODED_BYTES, Decoded
from softlab.loading.loader import BatchLoader, LoaderOptions
from softlab.loading.order import RowIndices, spread_out
from softlab.teacher.batch_check import check_alone, looked_at
from softlab.teacher.classifier_check import check_is_classifier
from softlab.teacher.dumped_views import Settled
from softlab.teacher.forward import TeacherOutput, TeacherRun, WholeOutput, keep
from softlab.teacher.next_token_check import check_next_tokens
from softlab.teacher.options import DumpOptions
from softlab.teacher.outside_numbers import OutsideNumbers, watch
from softlab.teacher.overflow import whole_mended
from softlab.teacher.plan import choose_k, chooses_k
from softlab.teacher.selections import Sampling, Selection, TopK, some_logits

CHECKED_SAMPLES = 8
"""From all over a source: enough to tell an embedding from logits over classes."""

MEASURED_SAMPLES = 32
"""To choose K by, of many classes."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Example:
    """What a few samples tell."""

    output: TeacherOutput
    outside: OutsideNumbers


def example_of(run: TeacherRun, aligned: Aligned, options: DumpOptions, settled: Settled) -> Example:
    """Raises TeacherError for an output that looks like no logits over classes, one that depends on
    more than its sample, and a teacher with parts that aren't registered.

    A compiled teacher sees a whole batch, so that it is compiled for that size; so does one whose logits are to tell
    the step of their coding. Where such a dump was begun, or is finished, its step stands.
    """
    names = [each.name for each in options.wanted_outputs if each.kind == "classes"]
    is_open = any(name not in settled.codings or settled.codings[name].gap_step is None for name in names)
    needs_rows = options.coding == "uint8" and options.gap_step is None and is_open
    count = options.batch_size if options.device.compile or needs_rows else CHECKED_SAMPLES
    decoded = Decoded(DECODED_BYTES)
    loader = BatchLoader(aligned, device=run.device, options=LoaderOptions(workers=0), decoded=decoded)

    def load(count: int) -> Batch:
        (batch,) = loader.load([spread_out(len(aligned.source), count=min(count, len(aligned.source)))])
        return batch

    batch = load(count)
    outside = _watch(run, aligned, loader)  # before any other pass, of which the teacher may keep something
    whole = whole_mended(run, batch)
    is_of_all = not options.device.compile and batch.source_B.tolist() == looked_at(aligned)
    of_all = whole if is_of_all else None
    if count < MEASURED_SAMPLES and _is_k_open(whole, options, settled):
        whole = whole_mended(run, load(min(MEASURED_SAMPLES, options.batch_size)))
    selections = check_classes(whole, options, settled)
    check_alone(run, aligned, decoded, of_all=of_all)
    output = keep(whole, selections=selections, options=options)
    check_next_tokens(output)
    return Example(output=output, outside=outside)


def _watch(run: TeacherRun, aligned: Aligned, loader: BatchLoader) -> OutsideNumbers:
    """A model that several processes share is one of transformers, which computes with its own weights alone."""
    if run.options.tensor_parallel > 1:
        return OutsideNumbers(constants=(), is_unseen=False, outputs="")
    samples = spread_out(len(aligned.source), count=min(CHECKED_SAMPLES, len(aligned.source))).source_B
    first = [samples[0], samples[-1]]
    second = [samples[1], samples[-2]] if len(samples) > 3 else first[::-1]
    rows = [np.array(each, dtype=np.int64) for each in (first, second)]
    one, two = loader.load([RowIndices(SourceIndex(each), np.zeros_like(each)) for each in rows])
    return watch(run, one, two)


def check_classes(whole: WholeOutput, options: DumpOptions, settled: Settled | None = None) -> dict[str, Selection]:
    """What is kept of each output of kind `classes`. Raises TeacherError for one that looks like none."""
    found: dict[str, Selection] = {}
    for each in options.wanted_outputs:
        if each.kind == "classes":
            logits_RC, before = some_logits(whole.logits[each.name]), (settled or Settled()).k.get(each.name)
            num_classes = logits_RC.shape[1]
            check_is_classifier(
                each, logits_RC, k=choose_k(options, num_classes=num_classes), head=options.head
            )  # by the K of few classes: what looks like no classes has no K of its own
            if options.selection == "sampled":  # where a class of -inf is one of probability 0
                found[each.name] = Sampling(resolution=options.resolution)
                continue
            _check_unmasked(each.name, logits_RC, options)
            found[each.name] = TopK(k=choose_k(options, num_classes=num_classes, logits_RC=logits_RC, settled=before))
    return found


def _check_unmasked(name: str, logits_RC: Tensor, options: DumpOptions) -> None:
    """Raises TeacherError for classes that a row doesn't have, unless such are expected; -inf of half precision is run
    again in float32."""
    may_overflow = options.device.autocast != "none" or bool((logits_RC.isnan() | logits_RC.isposinf()).any())
    if not (options.has_valid or may_overflow) and bool(logits_RC.isneginf().any()):
        raise TeacherError(
            f"output {name}: some of its logits are -inf. If those are classes that a row doesn't have, say "
            f"`dump.masked = true`: no loss counts them then. If not, check the weights and inputs."
        )


def _is_k_open(whole: WholeOutput, options: DumpOptions, settled: Settled) -> bool:
    return any(
        chooses_k(options, num_classes=rows.rows.shape[1]) and name not in settled.k
        for name, rows in whole.logits.items()
    )

"""Does the teacher still give what it gave when a dump was begun? Its name and the hash of its weights say nothing of
weights that it reads in its forward pass, of settings in files or variables, and of the libraries below it."""

# Shape letters: B samples in a batch, R rows of one sample, C classes, K entries kept, T temperatures.

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from softlab.errors import OtherNumerics, StoreMismatch
from softlab.indices import SourceIndex
from softlab.labels.coding import LabelCoding, as_tensor
from softlab.labels.lazy_logits import LazyLogits
from softlab.labels.sampled_coding import SampledCoding
from softlab.labels.selection import keep_top_k
from softlab.labels.soft_labels import SoftLabels
from softlab.labels.values_coding import ValuesCoding, decode_values
from softlab.loading.aligned import Aligned
from softlab.loading.batch import Batch
from softlab.loading.loader import BatchLoader, LoaderOptions
from softlab.loading.order import RowIndices
from softlab.manifest import ClassesRecord, ValuesRecord
from softlab.models.rows import OutputRows
from softlab.remote.remote import Place
from softlab.store.format import Array
from softlab.store.label_coding import coding_of
from softlab.store.stored_shards import StoredShard
from softlab.teacher.batch_check import OTHER_BATCH
from softlab.teacher.forward import TeacherRun
from softlab.teacher.overflow import whole_mended

DEEPEST = 50.0
"""Nats below the largest logit: what lies deeper, as masked classes at -1e4 do, doesn't tell how large logits are."""

ROUNDED = {"float32": 2.0**-22, "float16": 2.0**-10, "uint8": 2.0**-7, "int8": 2.0**-7, "int8_rotated": 2.0**-4}
"""By which two numbers may differ that were the same before they were coded, relative to them (of int8, rotated or not,
to the largest one of their row). uint8 keeps 7 bits of a tail."""

SMALLEST = 1e-7
"""Of float16: the same, for numbers near 0."""


@dataclass(frozen=True, slots=True)
class _Difference:
    """The largest one of a row."""

    size: float
    """What coding doesn't explain, relative to the row's largest number."""

    told: str


@torch.inference_mode()
def check_same_teacher(run: TeacherRun, aligned: Aligned, stored: Sequence[StoredShard], *, where: Place) -> None:
    """Runs the teacher on the first and the last sample that is stored, in their views, and compares all outputs.

    Raises StoreMismatch where they differ by more than the coding and the numbers of the forward pass explain; for a
    sample that has changed, too. Warns with OtherNumerics where the difference is one that another device makes."""
    rows = _rows_to_compare(stored)
    if not rows:
        return
    batch = _load(aligned, rows, run.device)
    whole = whole_mended(run, batch, compiled=False).on_host()
    for place, (shard, sample) in enumerate(rows):
        key = repr(aligned.source.keys[sample])
        if shard.content_hashes[sample - shard.record.start] != batch.content_hashes[place]:
            raise StoreMismatch(
                f"{where}: sample {key} is not the one that is stored. Restore the data, or choose another `out`."
            )
        outputs: list[ClassesRecord | ValuesRecord] = [*shard.plan.classes, *shard.plan.values]
        for each in outputs:
            found = _compare(shard, sample, each, whole.all_rows[each.name], place)
            explained = max(OTHER_BATCH[run.rounding], OTHER_BATCH[_rounding_of(shard, sample)])
            _judge(found, explained, told=f"{where}: output {each.name} of the sample {key}: stored is {found.told}")


def _rounding_of(shard: StoredShard, sample: int) -> Literal["exact", "half"]:
    """In which precision a stored sample was computed: a dump may go on in another."""
    spans = shard.record.precisions or ()
    found = (span.precision for span in spans if span.start <= sample < span.stop)
    return "exact" if next(found, shard.plan.teacher.precision) == "float32" else "half"


def _judge(found: _Difference, explained: float, *, told: str) -> None:
    refused = max(OTHER_BATCH["short"], explained)  # the device of the first run isn't known
    if found.size > refused:
        raise StoreMismatch(
            f"{told}: the teacher isn't the one that began. Give it the weights, the settings that it reads by itself "
            f"and the library versions that it was begun with, or choose another `out`."
        )
    if found.size > explained:
        warnings.warn(
            f"{told}. Another device would explain that, but new labels will differ from the stored ones by as much",
            OtherNumerics,
            stacklevel=4,
        )


def _rows_to_compare(stored: Sequence[StoredShard]) -> list[tuple[StoredShard, int]]:
    if not stored:
        return []
    first, last = stored[0], stored[-1]
    ends = [(first, first.record.start), (last, last.record.stop - 1)]
    is_one = first is last and first.record.stop - first.record.start == 1
    return ends[:1] if is_one else ends


def _load(aligned: Aligned, rows: Sequence[tuple[StoredShard, int]], device: torch.device) -> Batch:
    loader = BatchLoader(aligned, device=device, options=LoaderOptions(workers=0))
    source_B = SourceIndex(np.array([sample for _, sample in rows], dtype=np.int64))
    views_B = np.array([shard.record.view for shard, _ in rows], dtype=np.int64)
    (batch,) = loader.load([RowIndices(source_B, views_B)])
    return batch


def _compare(
    shard: StoredShard, sample: int, output: ClassesRecord | ValuesRecord, now: OutputRows, place: int
) -> _Difference:
    stored, rows = shard.rows_of(sample, output), now.rows[now.extent(place)]
    known = rows.hidden if isinstance(rows, LazyLogits) else rows
    num_stored = len(next(iter(stored.values())))
    if num_stored != len(rows):
        return _Difference(math.inf, f"the number of its rows: {num_stored:,}, and now it is {len(rows):,}")
    if not len(rows):
        return _Difference(0.0, "no row")
    if isinstance(output, ValuesRecord):
        own = shard.plan.array_of(output, "values").rpartition("/")[2]
        then = decode_values({"values" if name == own else name: as_tensor(stored[name]) for name in stored})
        return _compare_values(then.flatten(start_dim=1), known.float().flatten(start_dim=1), output.coding)
    coding = coding_of(output)
    if isinstance(coding, SampledCoding):
        return _compare_sampled(coding, stored, rows)
    logits_RC = rows.whole() if isinstance(rows, LazyLogits) else rows
    return _compare_labels(coding, stored, logits_RC, k=output.selection.k)


def _compare_values(then_RF: Tensor, now_RF: Tensor, coding: ValuesCoding) -> _Difference:
    largest_R1 = now_RF.abs().amax(dim=1, keepdim=True)
    scale = largest_R1 if coding.startswith("int8") else now_RF.abs()
    return _largest(then_RF, now_RF, rounded=ROUNDED[coding] * scale, largest_R1=largest_R1, tell=_tell_value)


def _compare_labels(coding: LabelCoding, stored: Mapping[str, Array], logits_RC: Tensor, *, k: int) -> _Difference:
    now = keep_top_k(
        logits_RC,
        k=k,
        temperatures=coding.temperatures,
        head=coding.head,
        has_valid=coding.has_valid,
        masked=coding.masked,
    )
    if not bool(now.max_logit_B.isfinite().all()) or bool(logits_RC.isnan().any()):
        return _Difference(math.inf, "the largest logit: finite, and now it is not")
    then, same = coding.decode(stored), coding.decode(coding.encode(now))
    raw_RK, same_RK, exact_RK = _raw(then), _raw(same), _raw(now)
    largest_R1 = exact_RK.abs().where(now.logits_BK > -DEEPEST, 0).amax(dim=1, keepdim=True)
    step = coding.gap_step if coding.coding == "uint8" else 0.0
    rounded_RK = 2 * step + ROUNDED[coding.coding] * (same_RK.abs().where(same_RK.isfinite(), 0) + largest_R1)
    by_class_RK = logits_RC.gather(1, then.class_ids_BK)
    is_clipped_RK = (same_RK - exact_RK).nan_to_num(nan=0).abs() > rounded_RK
    found = [
        _largest(
            raw_RK,
            by_class_RK.where(~is_clipped_RK, raw_RK),
            rounded=rounded_RK,
            largest_R1=largest_R1,
            tell=lambda row, column: f"the logit of class {then.class_ids_BK[row, column]}",
        ),
        _largest(
            raw_RK,
            same_RK,
            rounded=rounded_RK,
            largest_R1=largest_R1,
            tell=lambda row, column: f"the logit in place {column + 1} by size",
        ),
    ]
    # A log probability at temperature T moves by at most 2/T of what the logits move by.
    scale_T = torch.tensor(coding.temperatures) / 2
    found.append(
        _largest(
            then.log_tail_BT * scale_T,
            same.log_tail_BT * scale_T,
            rounded=ROUNDED[coding.coding] * (same.log_tail_BT * scale_T).abs(),
            largest_R1=largest_R1,
            tell=lambda row, column: f"the log tail at T = {coding.temperatures[column]:g} (times T/2)",
        )
    )
    return max(found, key=lambda each: each.size)


def _compare_sampled(coding: SampledCoding, stored: Mapping[str, Array], logits_RC: Tensor | LazyLogits) -> _Difference:
    """The classes that weren't drawn, by the logarithms of their probabilities: so the mass of all others too."""
    then, num_head_R1 = coding.decode(stored), torch.from_numpy(stored["num_head"].astype(np.int64))[:, None]
    is_head_RK = torch.arange(then.k) < num_head_R1
    parts = logits_RC.chunks() if isinstance(logits_RC, LazyLogits) else [(slice(None), logits_RC)]
    now, largest = [], []
    for some, logits_XC in parts:
        now.append(logits_XC.double().log_softmax(dim=1).gather(1, then.class_ids_BK[some]).float())
        is_class_XC = ~logits_XC.isneginf()  # a class of probability 0 tells nothing of how large logits are
        largest.append(logits_XC.abs().where(is_class_XC, 0).amax(dim=1, keepdim=True))
    now_RK, largest_R1 = torch.cat(now), torch.cat(largest).float()
    if not bool(largest_R1.isfinite().all()):
        return _Difference(math.inf, "the largest logit: finite, and now it is not")
    then_RK = _raw(then).where(is_head_RK, 0.0)
    rounded = torch.full_like(then_RK, 2 * coding.gap_step + ROUNDED["uint8"])
    return _largest(
        then_RK,
        now_RK.where(is_head_RK, 0.0),
        rounded=rounded,
        largest_R1=largest_R1,
        tell=lambda row, column: f"the log probability of class {then.class_ids_BK[row, column]}",
    )


def _raw(labels: SoftLabels) -> Tensor:
    return labels.logits_BK + labels.max_logit_B[:, None]


def _largest(
    then_RX: Tensor, now_RX: Tensor, *, rounded: Tensor, largest_R1: Tensor, tell: Callable[[int, int], str]
) -> _Difference:
    """Infinite numbers must be the same."""
    differs_RX = (then_RX - now_RX).abs().where(then_RX != now_RX, 0)
    size_RX = (differs_RX - rounded.nan_to_num(posinf=0) - SMALLEST).clamp(min=0) / largest_R1.clamp(min=SMALLEST)
    size_RX = size_RX.nan_to_num(nan=math.inf)
    place = int(size_RX.argmax())
    row, column = divmod(place, size_RX.shape[1])
    told = f"{tell(row, column)}: {then_RX[row, column]:.5g}, and now it is {now_RX[row, column]:.5g}"
    return _Difference(float(size_RX[row, column]), told)


def _tell_value(row: int, column: int) -> str:
    return f"number {column + 1}"

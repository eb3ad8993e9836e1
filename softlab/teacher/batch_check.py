"""Does what a teacher gives for a sample depend on that sample alone? A label must: students meet it without the
samples that happened to share its batch, and a dump that is gone on with cuts other batches.

Batch statistics, dropout that is always on, and attention between the samples of a batch would pass without an error.
"""

# Shape letters: B samples in a batch, R rows of an output.

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from softlab.errors import TeacherError
from softlab.indices import SourceIndex
from softlab.loading.aligned import Aligned
from softlab.loading.batch import Batch
from softlab.loading.decoded import Decoded
from softlab.loading.loader import BatchLoader, LoaderOptions
from softlab.loading.order import RowIndices, spread_out
from softlab.models.rows import OutputRows
from softlab.teacher.forward import TeacherRun, WholeOutput
from softlab.teacher.hidden_parts import check_nothing_hidden, only_own_modules
from softlab.teacher.overflow import whole_mended

ATTEMPTS = 8
"""To find the layer, or to tell what is random: that may be the same twice."""

MOST_SAMPLES = 8
"""Of a batch: the same as those of an example of the teacher's output, so that no others need be readable."""

REPEATED = 1e-4
"""By which the same batch may differ when it is run again, relative to the largest number: on the CPU it doesn't, and
on a GPU sums in another order change the last bits."""

OTHER_BATCH = {"exact": 1e-4, "short": 5e-3, "half": 5e-2}
"""By which a sample may differ in a batch of another size, whose kernels add up in another order. ResNet-18,
MobileNetV3, ConvNeXt and Swin differ by up to 6.1e-7 in float32 on the CPU. GPUs round the factors of float32
convolutions to 10 bits (TF32), which is 1e-3 a step; half precision keeps 8 (bfloat16) or 11. Batch statistics in place
of the stored ones changed a teacher of the tests by 1e-1."""


def check_alone(run: TeacherRun, aligned: Aligned, decoded: Decoded, *, of_all: WholeOutput | None = None) -> None:
    """Runs two samples together, each in another batch, and together again. Raises TeacherError, naming the layer where
    it begins, unless each gets the same numbers; and for a teacher with parts that aren't registered. `of_all` is what
    it gave for all samples that are looked at, if that is known."""
    check_nothing_hidden(run.module)
    samples = looked_at(aligned)
    last, batches = samples[-1], _Batches(run, aligned, decoded)
    together = sorted({samples[0], last})
    with only_own_modules(run.module):
        first = batches.whole(together)
    _compare(batches, first, together, together, tolerance=REPEATED)
    for other, known in (([last], None), (samples, of_all)):
        _compare(batches, first, together, other, second=known, tolerance=OTHER_BATCH[run.rounding])


def looked_at(aligned: Aligned) -> list[int]:
    """Samples from all over a source."""
    samples_B = spread_out(len(aligned.source), count=min(MOST_SAMPLES, len(aligned.source))).source_B
    return [int(each) for each in samples_B]


class _Batches:
    """Runs the teacher on batches of some samples; not compiled, as each has another size."""

    def __init__(self, run: TeacherRun, aligned: Aligned, decoded: Decoded) -> None:
        self.run, self.source = run, aligned.source
        self._loader = BatchLoader(aligned, device=run.device, options=LoaderOptions(workers=0), decoded=decoded)

    def whole(self, samples: Sequence[int]) -> WholeOutput:
        return whole_mended(self.run, self._load(samples), compiled=False)

    def _load(self, samples: Sequence[int]) -> Batch:
        source_B = SourceIndex(np.array(samples, dtype=np.int64))
        (batch,) = self._loader.load([RowIndices(source_B, np.zeros_like(source_B))])
        return batch

    def seen(self, samples: Sequence[int], sample: int) -> list["_Seen"]:
        """What each module gave for one of the samples, in the order in which they ran."""
        names = {id(module): name for name, module in self.run.module.named_modules()}
        found: list[_Seen] = []

        def keep(module: nn.Module, inputs: object, output: object) -> None:
            if isinstance(output, Tensor) and output.ndim and len(output) % len(samples) == 0:
                own = _rows_at(output, samples.index(sample), num_samples=len(samples))
                found.append(_Seen(names.get(id(module), ""), type(module).__name__, own.float().clone()))

        handle = register_module_forward_hook(keep)
        try:
            self.run.whole(self._load(samples), compiled=False)
        finally:
            handle.remove()
        return found


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    name: str
    kind: str
    output: Tensor

    def __str__(self) -> str:
        return f"layer `{self.name}` ({self.kind})" if self.name else f"a {self.kind}"


def _compare(
    batches: _Batches,
    first: WholeOutput,
    together: Sequence[int],
    other: Sequence[int],
    *,
    tolerance: float,
    second: WholeOutput | None = None,
) -> None:
    """The samples that both batches have, in each output; `second` is what the other one gave, if that is known."""
    second = batches.whole(other) if second is None else second
    shared = [(sample, name) for sample in reversed(together) if sample in other for name in first.all_rows]
    for sample, name in shared:
        one = _of_sample(first.all_rows[name], together.index(sample))
        two = _of_sample(second.all_rows[name], other.index(sample))
        differs = _difference(one, two)
        if differs > tolerance + _last_bit(one):
            is_random = other == together or _is_random(batches, first, together)
            place = _first_difference(batches, together, other, sample=sample, tolerance=tolerance)
            raise TeacherError(_refusal(name, repr(batches.source.keys[sample]), differs, place, is_random=is_random))


def _is_random(batches: _Batches, first: WholeOutput, together: Sequence[int]) -> bool:
    """What is drawn by lot may have been the same twice."""
    again = (batches.whole(together).all_rows for _ in range(ATTEMPTS))
    pairs = ((rows.known, found[name].known) for found in again for name, rows in first.all_rows.items())
    return any(_difference(one, two) > REPEATED + _last_bit(one) for one, two in pairs)


def _first_difference(
    batches: _Batches, together: Sequence[int], other: Sequence[int], *, sample: int, tolerance: float
) -> _Seen | None:
    for _ in range(ATTEMPTS):
        one, two = batches.seen(together, sample), batches.seen(other, sample)
        pairs = zip(one, two, strict=False)
        found = next((a for a, b in pairs if a.name == b.name and _difference(a.output, b.output) > tolerance), None)
        if found is not None:
            return found
    return None


def _difference(one: Tensor, two: Tensor) -> float:
    """The largest one, relative to the largest finite number; 0 for rows of other shapes, which say nothing."""
    if one.shape != two.shape or not one.numel():
        return 0.0
    one, two = one.float(), two.float()
    is_finite = one.isfinite() & two.isfinite()
    if bool((~is_finite & (one != two) & ~(one.isnan() & two.isnan())).any()):
        return float("inf")
    largest = one.abs().where(is_finite, 0).max().item()
    differs = (one - two).abs().where(is_finite, 0).max().item()
    return differs / max(largest, torch.finfo(torch.float32).tiny)


def _last_bit(rows: Tensor) -> float:
    """By which numbers of a dtype may differ that were the same but for the last bits of float32, relative to the
    largest: values are kept in float16, and two that lie beside the middle of two of its numbers become both."""
    return torch.finfo(rows.dtype).eps if rows.dtype.is_floating_point else 0.0


def _of_sample(rows: OutputRows, place: int) -> Tensor:
    return rows.known[rows.extent(place)]


def _rows_at(output: Tensor, place: int, *, num_samples: int) -> Tensor:
    """Of a layer, which may have several rows a sample, one behind the other."""
    per_sample = len(output) // num_samples
    return output[place * per_sample : (place + 1) * per_sample]


def _refusal(name: str, key: str, differs: float, place: _Seen | None, *, is_random: bool) -> str:
    where = "" if place is None else f", first in {place}"
    if is_random:
        return (
            f"output {name}: the row of the sample {key} is another one each time, by {differs:.2g} of its largest "
            f"number{where}. A label can't be drawn by lot: switch off what is random in eval mode, such as a dropout "
            f"that doesn't look at `self.training`."
        )
    return (
        f"output {name}: the row of the sample {key} depends on the samples beside it in the batch, by {differs:.2g} "
        f"of its largest number{where}. A label must be its sample's alone: give batch normalisation its running "
        f"statistics in eval mode, and let no layer look at other samples."
    )

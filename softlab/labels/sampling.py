"""An unbiased sample of a row's classes: likely ones are kept as they are, a few are drawn to stand for all others.

At resolution N a class of probability 1/N or more is kept with its probability, and so is the largest one. The others,
of mass m together, are laid end to end in the order of their ids, each as long as its probability; n = ceil(m N) marks
at equal distances, all shifted by one random number, pick n of them (systematic sampling, Madow and Madow 1944), which
weigh m / n each. So a row has N + 1 entries at most, its weights sum to 1, and any sum over classes of weight times
something has the expectation of the sum of probability times that. A tail of less than 1 / (16 N) is not worth an entry
in each row: with probability 16 N m it has one of weight 1 / (16 N), and otherwise none.

Nothing is sorted but N candidates, and nothing is cumulated over all classes: marks find their block of about sqrt(C)
classes by the blocks' sums, and then their class in it. Exponentials and the sums of blocks are float32, which is off
by 1e-7 of them; what is cumulated is float64, so that no class is too small to move the sum.
"""

# Shape letters: R rows, C classes, H candidates for the head, N resolution, K = N + 1 entries, G blocks of W classes.

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from softlab.errors import InvalidOption
from softlab.labels.lazy_logits import CHUNK_BYTES, LazyLogits, row_slices
from softlab.labels.selection import ties_by_class_id
from softlab.labels.soft_labels import SoftLabels

SMALL_TAIL = 16
"""Tails of less than 1 / (16 N) have an entry in some rows only."""

LARGEST_RESOLUTION = 254
"""The entries of a row are counted in a byte."""

CACHED_BYTES = 4 * 2**20
"""Of float32 logits that a CPU looks at at once: half the time of 64 MiB."""

NOTHING = -1000.0
"""Nats; as a probability 0, and finite."""


@torch.no_grad()
def keep_sampled(
    logits: Tensor | LazyLogits, *, resolution: int, uniforms_R2: Tensor, rows: int | None = None
) -> SoftLabels:
    """An unbiased sample of each row, see `SoftLabels.is_sampled`; on the device of the logits.

    `logits` are [R, C]; `uniforms_R2` are from `draws.uniforms`, best on the same device, as a GPU would be waited for:
    the same ones give the same sample, however many `rows` are looked at at once. Classes that are -inf are never
    drawn. Where a row has a NaN, or is -inf everywhere, its entropy is NaN. Raises InvalidOption for a resolution that
    isn't in 1..254.
    """
    check_resolution(resolution)
    rows = rows or _rows_at_once(logits, resolution=resolution)
    room = _Room.of(logits, rows=min(rows, len(logits)), resolution=resolution)
    parts = [
        _sample(logits_RC.float(), room, resolution=resolution, uniforms_R2=uniforms_R2[some])
        for some, logits_RC in _chunks(logits, rows=rows)
    ]
    return _as_labels(_Sample.join(parts), num_classes=logits.shape[1])


def check_resolution(resolution: int) -> None:
    """Raises InvalidOption unless it is in 1..254."""
    if not 1 <= resolution <= LARGEST_RESOLUTION:
        raise InvalidOption(
            f"resolution = {resolution}: a row has as many entries, and one more, at most. Choose `dump.resolution` "
            f"from 1 to {LARGEST_RESOLUTION}, as 16."
        )


def _rows_at_once(logits: Tensor | LazyLogits, *, resolution: int) -> int:
    num_bytes = CACHED_BYTES if logits.device.type == "cpu" else CHUNK_BYTES
    num_classes = logits.shape[1]
    return max(1, num_bytes // (4 * max(num_classes, 2 * resolution * _block_width(num_classes))))


def _chunks(logits: Tensor | LazyLogits, *, rows: int) -> Iterator[tuple[slice, Tensor]]:
    if not len(logits):
        yield slice(0, 0), torch.empty(logits.shape, device=logits.device)
    whole = logits.chunks(reuse=True) if isinstance(logits, LazyLogits) else [(slice(0, len(logits)), logits)]
    for large, logits_RC in whole:
        for small in row_slices(logits_RC.shape, rows=rows):
            yield slice(large.start + small.start, large.start + small.stop), logits_RC[small]


@dataclass(frozen=True, slots=True)
class _Room:
    """Memory that all chunks use in turn: on a CPU new memory costs as much as half of what is computed in it."""

    logs_RGW: Tensor
    weights_RGW: Tensor
    blocks_EW: Tensor
    """Of the blocks that are looked into: N of each row."""

    edges_EW: Tensor
    """Likewise."""

    @classmethod
    def of(cls, logits: Tensor | LazyLogits, *, rows: int, resolution: int) -> "_Room":
        width, device = _block_width(logits.shape[1]), logits.device
        shape = (rows, -(-logits.shape[1] // width), width)
        logs_RGW, weights_RGW = (torch.empty(shape, dtype=torch.float32, device=device) for _ in range(2))
        blocks_EW = torch.empty(rows * resolution, width, dtype=torch.float32, device=device)
        edges_EW = torch.empty_like(blocks_EW, dtype=_wide_dtype(device))
        return cls(logs_RGW=logs_RGW, weights_RGW=weights_RGW, blocks_EW=blocks_EW, edges_EW=edges_EW)

    def look_into(self, values_RGW: Tensor, blocks_RN: Tensor) -> Tensor:
        """Some blocks of each row, [R, N, W]: those that were looked into before are overwritten. Whole blocks are
        copied, which is several times as fast as to gather their numbers one by one."""
        num_rows, num_blocks, width = values_RGW.shape
        first_R = torch.arange(0, num_rows * num_blocks, num_blocks, device=values_RGW.device)
        index_E = (blocks_RN + first_R[:, None]).flatten()
        out_EW = self.blocks_EW[: len(index_E)]
        torch.index_select(values_RGW.flatten(end_dim=1), 0, index_E, out=out_EW)
        return out_EW.view(*blocks_RN.shape, width)

    def cumulated(self, values_RNW: Tensor) -> Tensor:
        """Along the last axis, as wide numbers."""
        out_RNW = self.edges_EW[: values_RNW.shape[0] * values_RNW.shape[1]].view(values_RNW.shape)
        return torch.cumsum(values_RNW, dim=2, dtype=out_RNW.dtype, out=out_RNW)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Head:
    """The candidates, largest first: the first `count_R` of them are kept."""

    class_ids_RH: Tensor
    log_p_RH: Tensor
    count_R: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class _Tail:
    """All other classes, in blocks; those of the head weigh nothing here."""

    weights_RGW: Tensor
    sums_RG: Tensor
    mass_R: Tensor
    """As a probability."""


@dataclass(frozen=True, slots=True)
class _Sample:
    """What is kept of some rows, before it is laid out as entries: for all rows at once, as a small operation costs the
    same however many rows it has."""

    class_ids_RH: Tensor
    log_p_RH: Tensor
    count_R: Tensor
    drawn_RN: Tensor
    num_drawn_R: Tensor
    log_weight_R: Tensor
    entropy_R: Tensor

    @classmethod
    def join(cls, parts: Sequence["_Sample"]) -> "_Sample":
        """The rows of several chunks, one behind the other."""
        return cls(*(torch.cat([getattr(part, each.name) for part in parts]) for each in fields(cls)))


def _sample(logits_RC: Tensor, room: _Room, *, resolution: int, uniforms_R2: Tensor) -> _Sample:
    head, tail, entropy_R = _part(logits_RC, room, resolution=resolution)
    uniforms_R2 = uniforms_R2.to(tail.mass_R)
    num_drawn_R, log_weight_R = _how_many(tail.mass_R, resolution=resolution, uniform_R=uniforms_R2[:, 1])
    marks_RN = torch.arange(resolution, device=logits_RC.device) + uniforms_R2[:, :1]
    return _Sample(
        class_ids_RH=head.class_ids_RH,
        log_p_RH=head.log_p_RH,
        count_R=head.count_R,
        drawn_RN=_classes_at(marks_RN / num_drawn_R.clamp(min=1)[:, None], tail, room),
        num_drawn_R=num_drawn_R,
        log_weight_R=log_weight_R,
        entropy_R=entropy_R,
    )


def _as_labels(sample: _Sample, *, num_classes: int) -> SoftLabels:
    """The head's entries first, then those that were drawn."""
    num_rows, resolution = sample.drawn_RN.shape
    slots_K = torch.arange(resolution + 1, device=sample.drawn_RN.device)
    head_RK = slots_K.clamp(max=sample.class_ids_RH.shape[1] - 1).expand(num_rows, -1)
    place_RK = slots_K - sample.count_R[:, None]
    is_head_RK, is_entry_RK = place_RK < 0, place_RK < sample.num_drawn_R[:, None]
    drawn_RK = sample.drawn_RN.gather(1, place_RK.clamp(min=0, max=resolution - 1)).where(is_entry_RK, 0)
    weight_RK = sample.log_weight_R[:, None].where(is_entry_RK, -math.inf)
    log_weights_RK = sample.log_p_RH.gather(1, head_RK).where(is_head_RK, weight_RK)
    return SoftLabels(
        class_ids_BK=sample.class_ids_RH.gather(1, head_RK).where(is_head_RK, drawn_RK),
        logits_BK=(log_weights_RK - log_weights_RK[:, :1]).float(),
        log_tail_BT=torch.full_like(sample.entropy_R[:, None], -math.inf, dtype=torch.float32),
        max_logit_B=log_weights_RK[:, 0].float().clone(memory_format=torch.contiguous_format),
        temperatures=(1.0,),
        num_classes=num_classes,
        absolute=False,
        interpolates=False,
        entropy_B=sample.entropy_R.float(),
    )


def _part(logits_RC: Tensor, room: _Room, *, resolution: int) -> tuple[_Head, _Tail, Tensor]:
    """The head, the tail, and the entropy [R]. The candidates are taken out before anything is summed, so that a small
    tail isn't lost beside them, and those that aren't kept are put back."""
    log_RGW, maxima_RG = _in_blocks(logits_RC, room)
    log_RH, class_ids_RH = _largest(log_RGW, maxima_RG, room, count=min(resolution, logits_RC.shape[1]))
    weights_RGW = torch.exp(log_RGW, out=room.weights_RGW[: len(log_RGW)])
    surprise_RG = _wide(log_RGW.mul_(weights_RGW).sum(dim=2))
    weights_RC = weights_RGW.flatten(start_dim=1)
    found_RH = weights_RC.gather(1, class_ids_RH)
    weights_RC.scatter_(1, class_ids_RH, 0.0)
    sums_RG = _wide(weights_RGW.sum(dim=2))

    total_R1 = sums_RG.sum(dim=1, keepdim=True) + _wide(found_RH).sum(dim=1, keepdim=True)
    log_p_RH = log_RH - total_R1.log()
    is_kept_RH = log_p_RH >= -math.log(resolution)
    is_kept_RH[:, 0] = True
    back_RH = found_RH.masked_fill(is_kept_RH, 0.0)
    weights_RC.scatter_add_(1, class_ids_RH, back_RH)
    sums_RG.scatter_add_(1, class_ids_RH // weights_RGW.shape[2], _wide(back_RH))

    head = _Head(class_ids_RH=class_ids_RH, log_p_RH=log_p_RH, count_R=is_kept_RH.sum(dim=1))
    mass_R = sums_RG.sum(dim=1) / total_R1[:, 0]
    entropy_R = total_R1[:, 0].log() - surprise_RG.sum(dim=1) / total_R1[:, 0]
    return head, _Tail(weights_RGW=weights_RGW, sums_RG=sums_RG, mass_R=mass_R), entropy_R


def _in_blocks(logits_RC: Tensor, room: _Room) -> tuple[Tensor, Tensor]:
    """[R, G, W] relative to the row's largest, filled up with nothing, and the largest of each block, [R, G]."""
    num_rows, num_classes = logits_RC.shape
    log_RGW = room.logs_RGW[:num_rows]
    log_RC = log_RGW.flatten(start_dim=1)
    maxima_RG = _block_maxima(logits_RC, width=log_RGW.shape[2])
    largest_R1 = maxima_RG.amax(dim=1, keepdim=True)
    torch.sub(logits_RC, largest_R1, out=log_RC[:, :num_classes])
    log_RC[:, num_classes:] = NOTHING
    return log_RGW.clamp_(min=NOTHING), maxima_RG.sub_(largest_R1).clamp_(min=NOTHING)


def _block_maxima(logits_RC: Tensor, *, width: int) -> Tensor:
    """[R, G]; the last block may be a shorter one."""
    num_full = logits_RC.shape[1] // width
    full_RC, rest_RC = logits_RC[:, : num_full * width], logits_RC[:, num_full * width :]
    maxima_RG = full_RC.reshape(len(full_RC), num_full, width).amax(dim=2)
    return torch.cat([maxima_RG, rest_RC.amax(dim=1, keepdim=True)], dim=1) if rest_RC.shape[1] else maxima_RG


def _largest(log_RGW: Tensor, maxima_RG: Tensor, room: _Room, *, count: int) -> tuple[Tensor, Tensor]:
    """Values and class ids, the largest first, of equal ones that of the lowest id. They lie in the blocks with the
    largest maxima, so that only as many of these are looked into as there may be classes: 5 times as fast."""
    num_rows, num_blocks, width = log_RGW.shape
    blocks_RN = maxima_RG.topk(min(count, num_blocks), dim=1).indices.sort(dim=1).values
    inside_RC = room.look_into(log_RGW, blocks_RN).flatten(start_dim=1)
    log_RH, places_RH = inside_RC.topk(count, dim=1)
    class_ids_RH = blocks_RN.gather(1, places_RH // width) * width + places_RH % width
    log_RH, class_ids_RH = ties_by_class_id(log_RH, class_ids_RH)
    first_R = maxima_RG.max(dim=1).indices  # of more equal ones than are looked for, any may have been found
    class_ids_RH[:, 0] = (
        first_R * width + log_RGW[torch.arange(num_rows, device=first_R.device), first_R].max(dim=1).indices
    )
    return log_RH, class_ids_RH


def _block_width(num_classes: int) -> int:
    """A power of two, about sqrt(C)."""
    return 1 << math.ceil(math.log2(num_classes) / 2)


def _wide(values: Tensor) -> Tensor:
    return values.to(_wide_dtype(values.device))


def _wide_dtype(device: torch.device) -> torch.dtype:
    """float64, where the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64


def _how_many(mass_R: Tensor, *, resolution: int, uniform_R: Tensor) -> tuple[Tensor, Tensor]:
    """How many classes are drawn of each tail, and the log of what each of them weighs."""
    smallest = 1 / (SMALL_TAIL * resolution)
    is_small_R = mass_R < smallest
    num_R = torch.where(is_small_R, uniform_R * smallest < mass_R, (mass_R * resolution).ceil())
    num_R = num_R.nan_to_num(0.0).long()
    return num_R, (mass_R.clamp(min=smallest) / num_R.clamp(min=1)).log()


def _classes_at(shares_RN: Tensor, tail: _Tail, room: _Room) -> Tensor:
    """The classes that lie at these shares (0 to 1) of the tail's length, int64 [R, N]."""
    edges_RG = tail.sums_RG.cumsum(dim=1)
    targets_RN = shares_RN * edges_RG[:, -1:]
    block_RN = _first_above(targets_RN, edges_RG)
    sum_RN = tail.sums_RG.gather(1, block_RN)
    share_RN = (targets_RN - (edges_RG.gather(1, block_RN) - sum_RN)) / sum_RN
    edges_RNW = room.cumulated(room.look_into(tail.weights_RGW, block_RN))
    place_RN1 = _first_above(share_RN[:, :, None].clamp(min=0) * edges_RNW[:, :, -1:], edges_RNW)
    return block_RN * edges_RNW.shape[2] + place_RN1[:, :, 0]


def _first_above(targets: Tensor, edges: Tensor) -> Tensor:
    """The first that ends behind each target: what has no length is never found. A target at the very end, where it
    got by rounding, belongs to the last one."""
    last = edges[..., -1:]
    targets = torch.minimum(targets, last.nextafter(torch.zeros_like(last)))
    return torch.searchsorted(edges, targets, right=True).clamp(max=edges.shape[-1] - 1)

"""Between sampled rows in memory and the arrays that a store holds.

| array     | one for each | type   | what                                                                            |
| num_head  | row          | uint8  | its classes that are kept with their probability                                |
| num_drawn | row          | uint8  | n, its classes that were drawn                                                  |
| tail      | row          | uint8  | what the drawn weigh together is (n - tail / 64) / N                            |
| entropy   | row          | uint8  | sixteenths of a nat                                                             |
| class_ids | entry        | uint16 | of the head in its order; of the first that was drawn; of others how far behind |
|           |              |        | the one before. uint32 of more than 65,536 classes                              |
| gaps      | entry        | uint8  | of the head: how far below the one before, in steps; else 0                     |

A tail is written in steps of 2 / 64, an entropy in eighths: a quarter of a byte less than in the steps that they have.
Between two steps a row's class ids decide which it gets, by how near it is to each, so that means are right.
The entries are one row behind the other, those of the head first. The head weighs what the drawn leave of 1, split as
its gaps say. With `frequent` classes an id is a rank: first those, in their order, then all others by their ids.

Bytes a token of a store of 16,384 tokens of novels and of a manual (SmolLM2-135M), under Blosc's zstd 9 with byte
shuffle; the frequent classes are the 8,192 tokens that follow most often in all samples. Ids as they are would be 1.8,
2.8 and 3.6 bytes more at these resolutions; gaps of each sample together are half of gaps in the places of entries:

| N  | entries | class_ids | gaps | num_head | num_drawn | tail | entropy | sum with units and counts |
| 16 | 9.2     | 12.8      | 0.7  | 0.3      | 0.5       | 0.6  | 0.7     | 15.6                      |
| 32 | 15.0    | 20.5      | 1.4  | 0.4      | 0.6       | 0.6  | 0.7     | 24.2                      |
| 48 | 20.0    | 27.1      | 2.0  | 0.4      | 0.7       | 0.6  | 0.7     | 31.6                      |
"""

# Shape letters: R rows, C classes, E entries of all rows, K = N + 1 slots of one.

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from softlab.labels.coding import Array, as_tensor, gaps_of
from softlab.labels.on_device import copy_to
from softlab.labels.origin import Origin
from softlab.labels.sampled_arrays import ENTRY_ARRAYS, ROW_ARRAYS, TAIL_STEPS
from softlab.labels.soft_labels import SoftLabels

HEAD_STEP = 1 / 8
"""Nats. At N = 16 the angle of 4,096 tokens is 1.467 degrees in place of 1.463, and 0.2 bytes a token are saved beside
1/16."""

ENTROPY_STEPS, COARSE = 16, 2
"""Of a nat; the second of these and of the steps of tails are written."""

A_STEP = 1e-3
"""Numbers that are no further from a step are one, but for the rounding of float32."""

MOST_COUNTED = 2 * 255 + 1
"""What two bytes may count together, and none."""

ALMOST_ALL = 1 - 2.0**-20
"""No tail is more, as a class is always kept."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SampledCoding:
    """How sampled rows over some classes, at one resolution, become arrays and come back."""

    num_classes: int
    resolution: int
    gap_step: float = HEAD_STEP
    """Nats."""

    frequent: tuple[int, ...] = ()
    """Class ids that occur often, the most frequent first: small differences between ranks are what is small on disk.
    See `frequent_classes`."""

    def __hash__(self) -> int:
        """Without going through thousands of class ids: tables are looked up by it in each read."""
        return hash((self.num_classes, self.resolution, self.gap_step, len(self.frequent)))

    @property
    def class_id_dtype(self) -> str:
        return "uint16" if self.num_classes <= 1 << 16 else "uint32"

    @property
    def k(self) -> int:
        """Slots of a row."""
        return self.resolution + 1

    def encode(self, labels: SoftLabels) -> dict[str, Array]:
        """Arrays by name; those of entries are one row behind the other."""
        assert labels.entropy_B is not None, "labels that are sampled"
        logits_RK, first_R1 = labels.logits_BK.numpy(), labels.max_logit_B.numpy()[:, None]
        num_R, slots_K = np.isfinite(logits_RK).sum(axis=1), np.arange(self.k)
        is_head_RK, num_drawn_R = self._find_head(logits_RK, first_R1, num_R=num_R)
        log_each_R = np.take_along_axis(logits_RK + first_R1, np.maximum(num_R - 1, 0)[:, None], axis=1)[:, 0]
        tail_R = num_drawn_R * (1 - self.resolution * np.exp(log_each_R.astype(np.float64)))
        depths_RK = np.where(is_head_RK, logits_RK, -np.inf)
        ids_RK = self._encode_ids(labels.class_ids_BK.numpy(), is_head_RK=is_head_RK, num_R=num_R)
        is_there_RK = slots_K < num_R[:, None]
        entropy_R = labels.entropy_B.numpy().astype(np.float64) * ENTROPY_STEPS
        dither_R = _dither(np.where(is_there_RK, labels.class_ids_BK.numpy() + 1, 0).sum(axis=1))
        return {
            "num_head": (num_R - num_drawn_R).astype(np.uint8),
            "num_drawn": num_drawn_R.astype(np.uint8),
            "tail": _in_coarse_steps(tail_R * TAIL_STEPS, dither_R=dither_R),
            "entropy": _in_coarse_steps(entropy_R, dither_R=dither_R),
            "class_ids": ids_RK[is_there_RK].astype(self.class_id_dtype),
            "gaps": np.where(is_head_RK, gaps_of(depths_RK, step=self.gap_step), 0)[is_there_RK].astype(np.uint8),
        }

    def slots(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """The same with K slots a row, filled up with 0: what `decode_tensors` takes."""
        num_R = arrays["num_head"].astype(np.int64) + arrays["num_drawn"]
        is_there_RK = np.arange(self.k) < num_R[:, None]
        found = {name: arrays[name] for name in ROW_ARRAYS}
        for name in ENTRY_ARRAYS:
            found[name] = np.zeros(is_there_RK.shape, dtype=arrays[name].dtype)
            found[name][is_there_RK] = arrays[name]
        return found

    def decode(self, arrays: Mapping[str, Array]) -> SoftLabels:
        """The inverse of `encode`, up to its rounding, and to the order of the drawn."""
        return self.decode_tensors({name: as_tensor(array) for name, array in self.slots(arrays).items()})

    def decode_tensors(
        self, stored: Mapping[str, Tensor], *, counts_B: Tensor | None = None, origin: Origin | None = None
    ) -> SoftLabels:
        """The same of slots on any device, whose integers are signed, with the bits of those that are stored.
        `counts_B` and `origin` are those of the labels."""
        num_head_R1, num_drawn_R1 = stored["num_head"].int()[:, None], stored["num_drawn"].int()[:, None]
        num_R1 = num_head_R1 + num_drawn_R1
        slots = _slots(self.k, num_R1.device)
        is_head_RK = slots.is_before_NK.index_select(0, num_head_R1[:, 0])
        is_there_RK = slots.is_before_NK.index_select(0, num_R1[:, 0])
        is_drawn_RK = is_there_RK - is_head_RK
        class_ids_RK = self._decode_ids(stored["class_ids"], is_drawn_RK=is_drawn_RK, is_there_RK=is_there_RK)
        # Numbers are multiplied by 0 and 1 in place of chosen by masks, which is several times as fast on a CPU.
        weighs_RK = is_head_RK.float()
        head_RK = stored["gaps"].cumsum(dim=1, dtype=torch.float32).mul_(-self.gap_step)
        log_sum_R1 = head_RK.exp().mul_(weighs_RK).sum(dim=1, keepdim=True).log()
        tail_R1 = (num_drawn_R1 - stored["tail"][:, None] / TAIL_STEPS) / self.resolution
        log_rest_R1 = (1 - tail_R1.where(num_drawn_R1 > 0, 0.0).clamp(max=ALMOST_ALL)).log()
        log_head_R1 = log_rest_R1 - log_sum_R1
        log_each_R1 = (tail_R1 / num_drawn_R1).where(num_drawn_R1 > 0, 1.0).log()
        logits_RK = head_RK.mul_(weighs_RK).addcmul_(is_drawn_RK.float(), log_each_R1 - log_head_R1)
        return SoftLabels(
            class_ids_BK=class_ids_RK,
            logits_BK=logits_RK.add_(slots.log_is_before_NK.index_select(0, num_R1[:, 0])),
            log_tail_BT=torch.full_like(log_head_R1, -math.inf),
            max_logit_B=log_head_R1[:, 0],
            temperatures=(1.0,),
            num_classes=self.num_classes,
            absolute=False,
            interpolates=False,
            entropy_B=stored["entropy"].float() / ENTROPY_STEPS,
            counts_B=counts_B,
            origin=origin,
        )

    def _find_head(self, logits_RK: Array, first_R1: Array, *, num_R: Array) -> tuple[Array, Array]:
        """bool [R, K], and how many were drawn: the last ones, which weigh the same, and no more than 1/N. The first is
        of the head in any case."""
        last_R1 = np.take_along_axis(logits_RK, np.maximum(num_R - 1, 0)[:, None], axis=1)
        is_light_R1 = last_R1 + first_R1 <= -math.log(self.resolution) + 1e-6
        is_drawn_RK = (logits_RK == last_R1) & is_light_R1 & np.isfinite(logits_RK)
        is_drawn_RK[:, 0] = False
        return np.isfinite(logits_RK) & ~is_drawn_RK, is_drawn_RK.sum(axis=1)

    def _encode_ids(self, class_ids_RK: Array, *, is_head_RK: Array, num_R: Array) -> Array:
        """The ranks of the head, and the differences between those of the drawn, which ascend."""
        ranks_RK = _ranks(self)[class_ids_RK]
        is_drawn_RK = ~is_head_RK & (np.arange(self.k) < num_R[:, None])
        far = self.num_classes
        keys_RK = np.where(is_head_RK, -1, np.where(is_drawn_RK, ranks_RK, far))
        drawn_RK = np.sort(keys_RK, axis=1)  # those of the head are in front, as they were
        differences_RK = np.diff(np.maximum(drawn_RK, 0), axis=1, prepend=0)
        return np.where(is_head_RK, ranks_RK, differences_RK)

    def _decode_ids(self, stored_RK: Tensor, *, is_drawn_RK: Tensor, is_there_RK: Tensor) -> Tensor:
        """int64 [R, K], 0 in slots without an entry."""
        stored_RK = stored_RK.int()
        if self.class_id_dtype == "uint16":
            stored_RK &= 0xFFFF
        drawn_RK = stored_RK * is_drawn_RK
        ranks_RK = stored_RK.sub_(drawn_RK).add_(drawn_RK.cumsum_(dim=1)).clamp_(min=0, max=self.num_classes - 1)
        if not self.frequent:
            return ranks_RK.mul_(is_there_RK).long()
        order_C1 = _order_on(self, stored_RK.device)
        places_RK = ranks_RK.add_(1).mul_(is_there_RK)
        # 6 times as fast as order_C1[places_RK]
        return order_C1.index_select(0, places_RK.flatten()).view(places_RK.shape)


def _dither(sums_R: Array) -> Array:
    """Of each row a number in 0..1 that looks random, by the sum of its class ids: those that were drawn, and the text,
    decide it. Multiples of the golden ratio lie evenly, whatever the numbers."""
    bits_R = sums_R.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    dither_R: Array = (bits_R >> np.uint64(11)) / 2.0**53
    return dither_R


def _in_coarse_steps(steps_R: Array, *, dither_R: Array) -> Array:
    """Rounded up as often as a number lies far above the step below it, so that means over many rows are right, also of
    rows that are alike. What is such a step already stays, so that labels that were read are written as they were."""
    coarse_R = steps_R / COARSE
    nearest_R = np.rint(coarse_R)
    rounded_R = np.where(np.abs(coarse_R - nearest_R) < A_STEP, nearest_R, np.floor(coarse_R + dither_R))
    found: Array = (COARSE * np.clip(rounded_R, 0, 255 // COARSE)).astype(np.uint8)
    return found


def frequent_classes(labels: SoftLabels, *, most: int = 4096, known_C: Array | None = None) -> tuple[int, ...]:
    """The classes with the most entries, the most frequent first and of equal ones that of the lower id. `known_C` is
    how often each is known to be right elsewhere: few rows tell little of a vocabulary."""
    is_entry_BK = labels.logits_BK.isfinite()
    counts_C = torch.bincount(labels.class_ids_BK[is_entry_BK].cpu(), minlength=labels.num_classes)
    if known_C is not None:
        counts_C[: len(known_C)] += torch.from_numpy(known_C)[: labels.num_classes]
    order_C = counts_C.argsort(descending=True, stable=True)[: min(most, int((counts_C > 0).sum()))]
    return tuple(order_C.tolist())


@dataclass(frozen=True, slots=True)
class _Slots:
    """Of rows with n entries, n = 0, 1, .., which of K slots those are: to look that up is 4 times as fast as to
    compare."""

    is_before_NK: Tensor
    """int32, 1 in the first n."""

    log_is_before_NK: Tensor
    """float32, 0 in the first n, else -inf."""


@lru_cache(maxsize=8)
def _slots(k: int, device: torch.device) -> _Slots:
    is_before_NK = torch.arange(k, device=device) < torch.arange(MOST_COUNTED, device=device)[:, None]
    return _Slots(is_before_NK.int(), is_before_NK.float().log())


@lru_cache(maxsize=8)
def _order(coding: SampledCoding) -> Array:
    """int64 [C], the class of each rank."""
    frequent = np.array(coding.frequent, dtype=np.int64)
    return np.concatenate([frequent, np.setdiff1d(np.arange(coding.num_classes), frequent)])


@lru_cache(maxsize=8)
def _order_on(coding: SampledCoding, device: torch.device) -> Tensor:
    """int64 [C + 1], the same behind a 0, for slots without an entry."""
    return copy_to(device, torch.from_numpy(np.concatenate([[0], _order(coding)])))


@lru_cache(maxsize=8)
def _ranks(coding: SampledCoding) -> Array:
    """int64 [C], the inverse of `_order`."""
    return np.argsort(_order(coding))

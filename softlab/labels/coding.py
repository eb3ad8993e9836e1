"""Between soft labels in memory and the arrays that a store holds.

| array     | shape  | float32 | float16 | uint8                               |
| class_ids | [N, K] | uint16 while C <= 65,536, else uint32 (in every coding)         |
| logits    | [N, K] | float32 | float16 | gaps in steps that the manifest names |
| max_logit | [N]    | float32 | float16 | float16, in whole steps             |
| log_tail  | [N, T] | float32 | float16 | float16 of 7 significant bits       |
| valid     | [N]    | as class_ids, one type wider where C does not fit; only where rows may have fewer classes |
| valid_bits | [N, C / 8] | uint8, in every coding; only where any classes may be missing, not the last ones alone |

The uint8 coding rounds each logit to a multiple of the step and stores how far it lies below the one before it. The
rounding error stays within half a step however long the row, because logits are rounded before gaps are taken. A gap
over 255 steps is clipped, counted, and made up for by the following gaps. The four bits that a softmax tail loses cost
about 3e-6 nats and save a byte a row; a sigmoid head keeps them, as there a small mean probability weighs much.
"""

# Shape letters: N rows in a block, C classes, K entries kept (K <= C), T temperatures.

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from softlab.errors import TeacherError
from softlab.labels.origin import Origin
from softlab.labels.soft_labels import Head, SoftLabels

Coding = Literal["float32", "float16", "uint8"]
Array = NDArray[Any]

GAP_STEP = 1 / 16
"""Nats. Costs about 1e-5 nats of KL, where keeping 16 of 1,000 classes without their tail costs 0.09."""

MAX_GAP = 255
LARGEST_FLOAT16 = 65504.0
_FLOAT16 = np.finfo(np.float16)
_LARGEST_SHORT = 0x7BF0
"""Bits of the largest finite float16 of 7 significant bits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelCoding:
    """How soft labels of one kind become arrays and come back."""

    coding: Coding
    gap_step: float = GAP_STEP
    """Nats; used by the uint8 coding alone."""

    num_classes: int
    temperatures: tuple[float, ...]
    head: Head = "softmax"
    """Not in the arrays: what their logits and log tails mean."""

    absolute: bool = True
    """Likewise: whether the logits have a level of their own."""

    interpolates: bool = True
    """Likewise: whether tails can be told between the stored temperatures."""

    has_valid: bool = False
    """Whether rows may have fewer classes than C."""

    masked: bool = False
    """Whether any classes may be missing, and not the last ones alone."""

    @property
    def valid_dtype(self) -> str:
        """It may be C itself, which no class id is."""
        return "uint16" if self.num_classes < 1 << 16 else "uint32"

    @property
    def valid_bytes(self) -> int:
        """Of the bits of a row."""
        return -(-self.num_classes // 8)

    @property
    def class_id_dtype(self) -> str:
        return "uint16" if self.num_classes <= 1 << 16 else "uint32"

    @property
    def float_dtype(self) -> str:
        return "float32" if self.coding == "float32" else "float16"

    @property
    def logit_dtype(self) -> str:
        return self.coding

    def encode(self, labels: SoftLabels) -> dict[str, Array]:
        """Arrays by name. Raises TeacherError if a largest logit is beyond what float16 can hold."""
        max_logit_N = labels.max_logit_B.numpy()
        if self.float_dtype == "float16" and (np.abs(max_logit_N) > LARGEST_FLOAT16).any():
            raise TeacherError(_too_large(float(max_logit_N[np.abs(max_logit_N).argmax()])))
        arrays = {
            "class_ids": labels.class_ids_BK.numpy().astype(self.class_id_dtype),
            "logits": self._encode_logits(labels.logits_BK.numpy()),
            "max_logit": self._encode_max_logit(max_logit_N),
            "log_tail": self._encode_log_tail(labels.log_tail_BT.numpy()),
        }
        if self.has_valid:
            valid_B = labels.valid_B
            all_of_them = np.full(len(labels), self.num_classes)
            arrays["valid"] = (all_of_them if valid_B is None else valid_B.numpy()).astype(self.valid_dtype)
        if self.masked:
            assert labels.valid_bits_BW is not None, "as they were selected"
            arrays["valid_bits"] = labels.valid_bits_BW.numpy()
        return arrays

    def decode(self, arrays: Mapping[str, Array]) -> SoftLabels:
        """The inverse of `encode`, up to the coding's rounding."""
        return self.decode_tensors({name: as_tensor(array) for name, array in arrays.items()})

    def decode_tensors(
        self, stored: Mapping[str, Tensor], *, counts_B: Tensor | None = None, origin: Origin | None = None
    ) -> SoftLabels:
        """The same for tensors on any device, whose integers are signed, with the bits of those that are stored.
        `counts_B` and `origin` are those of the labels."""
        class_ids_BK = self._decode_integers(stored["class_ids"], most=self.num_classes - 1)
        logits_BK, valid_B = self._decode_logits(stored["logits"]), None
        if self.has_valid:  # a gap can't tell that there is no class: it would be one of 16 nats less than the last
            valid_B = self._decode_integers(stored["valid"], most=self.num_classes)
            # Of the largest logits first, those of classes that the row doesn't have are the last ones.
            order_BK = torch.arange(class_ids_BK.shape[1], device=class_ids_BK.device) if self.masked else class_ids_BK
            logits_BK = logits_BK.masked_fill(order_BK >= valid_B[:, None], -math.inf)
        return SoftLabels(
            class_ids_BK=class_ids_BK,
            logits_BK=logits_BK,
            log_tail_BT=stored["log_tail"].float(),
            max_logit_B=stored["max_logit"].float(),
            temperatures=self.temperatures,
            num_classes=self.num_classes,
            head=self.head,
            absolute=self.absolute,
            interpolates=self.interpolates,
            valid_B=valid_B,
            valid_bits_BW=stored["valid_bits"] if self.masked else None,
            counts_B=counts_B,
            origin=origin,
        )

    def _encode_logits(self, logits_NK: Array) -> Array:
        return gaps_of(logits_NK, step=self.gap_step) if self.coding == "uint8" else _saturated(logits_NK, self.coding)

    def _encode_max_logit(self, max_logit_N: Array) -> Array:
        if self.coding == "uint8":  # no finer than the logits themselves
            max_logit_N = np.rint(max_logit_N.astype(np.float64) / self.gap_step) * self.gap_step
        return _saturated(max_logit_N, self.float_dtype)

    def _encode_log_tail(self, log_tail_NT: Array) -> Array:
        stored_NT = _saturated(log_tail_NT, self.float_dtype)
        return _shortened(stored_NT) if self.coding == "uint8" and self.head == "softmax" else stored_NT

    def _decode_integers(self, stored: Tensor, *, most: int) -> Tensor:
        """int64 of unsigned integers that were read as signed ones; the largest may be `most`."""
        bits, decoded = 8 * stored.element_size(), stored.long()
        return decoded if most < 1 << (bits - 1) else decoded & ((1 << bits) - 1)

    def _decode_logits(self, stored_NK: Tensor) -> Tensor:
        return logits_of_gaps(stored_NK, step=self.gap_step) if self.coding == "uint8" else stored_NK.float()

    def count_clipped(self, labels: SoftLabels, arrays: Mapping[str, Array]) -> int:
        """How many logits lie further from the teacher's than the coding's rounding explains."""
        logits_NK = labels.logits_BK.numpy()
        with np.errstate(invalid="ignore"):  # -inf, of a class that a row doesn't have, less -inf
            error_NK = np.abs(self._decode_logits(as_tensor(arrays["logits"])).numpy() - logits_NK)
        return int((np.isfinite(logits_NK) & (error_NK > self._rounding(logits_NK))).sum())

    def _rounding(self, logits_NK: Array) -> Array:
        if self.coding == "uint8":
            return np.full_like(logits_NK, 0.51 * self.gap_step)
        return np.abs(logits_NK) * float(_FLOAT16.eps) + float(_FLOAT16.smallest_subnormal)


def _too_large(logit: float) -> str:
    if logit < 0:
        return (
            f"the largest logit of a row is {logit:g}: all of its classes are masked, and it tells nothing. Mask fewer "
            f"classes, or leave such samples out; `dump.coding = float32` stores the row as it is."
        )
    return (
        f"a logit of {logit:g} doesn't fit float16 (at most {LARGEST_FLOAT16:g}). Store with `dump.coding = float32`."
    )


def gaps_of(logits_NK: Array, *, step: float = GAP_STEP) -> Array:
    """uint8 [N, K], in steps: how far each logit lies below the one before it; the first is 0."""
    # -inf, of a class that a row doesn't have, lies as far below as gaps can tell.
    depth_NK = np.rint(np.nan_to_num(-logits_NK.astype(np.float64), posinf=LARGEST_FLOAT16) / step)
    if (np.diff(depth_NK, axis=1, prepend=0) > MAX_GAP).any():
        depth_NK = _reachable(depth_NK)
    return np.diff(depth_NK, axis=1, prepend=0).astype(np.uint8)


def logits_of_gaps(gaps_NK: Tensor, *, step: float = GAP_STEP) -> Tensor:
    """float32 [N, K], the logits that `gaps_of` stands for."""
    return gaps_NK.cumsum(dim=1, dtype=torch.int32).float().mul_(-step)


SIGNED = {"uint16": "int16", "uint32": "int32"}
"""torch computes next to nothing with wide unsigned integers."""


def as_tensor(array: Array) -> Tensor:
    """The same memory, where torch can use it; unsigned integers wider than a byte are read as signed ones."""
    usable = np.require(array, requirements=("C", "A", "W"))
    return torch.from_numpy(usable.view(SIGNED.get(array.dtype.name, array.dtype)))


def _reachable(depth_NK: Array) -> Array:
    """The deepest depths not beyond the wanted ones that gaps of at most 255 steps can reach."""
    reached_NK = depth_NK.copy()
    for column in range(1, depth_NK.shape[1]):
        np.minimum(depth_NK[:, column], reached_NK[:, column - 1] + MAX_GAP, out=reached_NK[:, column])
    return reached_NK


def _saturated(values: Array, dtype: str) -> Array:
    """Cast; finite values beyond float16 become its largest, so that -inf keeps meaning "no tail"."""
    if dtype == "float32":
        return values.astype(np.float32, copy=False)
    finite = np.clip(values, -LARGEST_FLOAT16, LARGEST_FLOAT16)
    return np.where(np.isneginf(values), values, finite).astype(np.float16)


def _shortened(values: Array) -> Array:
    """float16 rounded to 7 significant bits, its last four zero: what a compressor then needn't keep."""
    bits = np.abs(values).view(np.uint16) + np.uint16(0b1000)
    bits &= np.uint16(0b1111_1111_1111_0000)
    np.minimum(bits, np.uint16(_LARGEST_SHORT), out=bits, where=np.isfinite(values))
    return np.copysign(bits.view(np.float16), values)

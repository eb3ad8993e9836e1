"""Logits of very many classes, not computed yet: the input of the output layer, and that layer's weights.

Of 4,096 tokens and 152,064 classes the logits alone are 2.5 GB in float32; their hidden states are 15 MB.
"""

# Shape letters: ... any leading axes, R rows, D width of the hidden states, C classes.

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

CHUNK_BYTES = 64 * 2**20
"""Of float32 logits that are there at once."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LazyLogits:
    """What a model's output layer would give, as `whole`, or of some rows after the others, as `chunks`.

    The product is computed in the type of the hidden states, under autocast in that of autocast, as the model itself
    would; what comes out is float32 (float64 of float64).
    """

    hidden: Tensor
    """[..., D], what the output layer is given."""

    weight_CD: Tensor
    bias_C: Tensor | None = None

    scale: float = 1.0
    """The products are multiplied by it."""

    softcap: float | None = None
    """After that they are `softcap * tanh(logits / softcap)`."""

    num_classes: int | None = None
    """The first so many rows of the weight are classes; the others fill a padded vocabulary. None: all are."""

    def __len__(self) -> int:
        return len(self.hidden)

    def __repr__(self) -> str:
        return f"LazyLogits({list(self.shape)}, from hidden states [{self.hidden.shape[-1]}], {self.dtype})"

    @property
    def shape(self) -> torch.Size:
        """Of the logits: [..., C]."""
        num_classes = len(self.weight_CD) if self.num_classes is None else self.num_classes
        return torch.Size((*self.hidden.shape[:-1], num_classes))

    @property
    def ndim(self) -> int:
        return self.hidden.ndim

    @property
    def device(self) -> torch.device:
        return self.hidden.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the hidden states."""
        return self.hidden.dtype

    def flatten_rows(self) -> "LazyLogits":
        """The same as rows [R, C], whatever the leading axes are."""
        return replace(self, hidden=self.hidden.reshape(-1, self.hidden.shape[-1]))

    def __getitem__(self, rows: slice | Tensor) -> "LazyLogits":
        """Some of them along the first axis."""
        return replace(self, hidden=self.hidden[rows])

    def whole(self) -> Tensor:
        """[..., C]; only where there is memory for all."""
        return self.finish(functional.linear(self.hidden, *self.layer()))

    def chunks(self, *, rows: int | None = None, reuse: bool = False) -> Iterator[tuple[slice, Tensor]]:
        """Which rows, and their logits [r, C]; as many at once as make 64 MiB, or `rows`. With `reuse`, and
        without gradients, each chunk may lie in the memory of the one before, which is overwritten then."""
        weight_CD, bias_C = self.layer()
        slices = list(row_slices(self.shape, rows=rows))
        room_RC = self._room(weight_CD, slices) if reuse else None
        for some in slices:
            if room_RC is None:
                yield some, self.finish(functional.linear(self.hidden[some], weight_CD, bias_C))
            else:
                out_RC = room_RC[: some.stop - some.start]
                yield some, self.finish(torch.mm(self.hidden[some].to(weight_CD.dtype), weight_CD.T, out=out_RC))

    def _room(self, weight_CD: Tensor, slices: list[slice]) -> Tensor | None:
        """Memory for the products of the largest chunk; None where there is nothing to be gained. New memory of a
        process costs a CPU about a tenth of the product; other devices keep it for what comes next."""
        is_plain = self.bias_C is None and self.ndim == 2 and not torch.is_grad_enabled()
        if self.device.type != "cpu" or not is_plain or len(slices) < 2:
            return None
        return weight_CD.new_empty(slices[0].stop, len(weight_CD))

    def layer(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of the classes alone, in the type that they are multiplied in."""
        num_classes, dtype = self.shape[-1], self.dtype
        if torch.is_autocast_enabled(self.device.type) and dtype != torch.float64:
            dtype = torch.get_autocast_dtype(self.device.type)
        weight_CD = self.weight_CD[:num_classes].to(dtype)
        return weight_CD, None if self.bias_C is None else self.bias_C[:num_classes].to(dtype)

    def finish(self, products: Tensor) -> Tensor:
        """The logits, of hidden states times weight plus bias."""
        if self.scale != 1.0:
            products = products * self.scale
        if self.softcap is not None:
            products = (products / self.softcap).tanh() * self.softcap
        return products if products.dtype == torch.float64 else products.float()


def in_autocast_dtype(hidden: Tensor) -> Tensor:
    """Hidden states in the type of autocast, where that is on: the product is computed when it is over."""
    device = hidden.device.type
    is_on = torch.is_autocast_enabled(device) and hidden.dtype != torch.float64
    return hidden.to(torch.get_autocast_dtype(device)) if is_on else hidden


def row_slices(shape: torch.Size, *, rows: int | None = None) -> Iterator[slice]:
    """Of the first axis of such logits: as many at once as make 64 MiB in float32, or `rows`."""
    step = max(1, rows or CHUNK_BYTES // (4 * max(1, shape[1:].numel())))
    return (slice(start, min(start + step, shape[0])) for start in range(0, shape[0], step))

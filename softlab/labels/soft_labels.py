"""The value that the whole of softlab is about: a teacher's output for each row, sparse over its classes."""

# Shape letters: B rows in a batch, C classes, K entries kept (K <= C), T temperatures.

import math
import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Protocol, Self, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from softlab.amounts import format_count
from softlab.errors import InterpolatedTail, InvalidOption, StoreMismatch
from softlab.labels.origin import Origin
from softlab.labels.tail_curve import Interpolated, TailError, interpolate_convex, interpolate_mean_sigmoid, tail_error
from softlab.labels.told import is_told

Head = Literal["softmax", "sigmoid"]
"""How a teacher's logits become probabilities: of one class among C, or of each class by itself (multi-label)."""


_FIRST_ERRORS: dict[tuple[Origin, float], TailError] = {}
"""Of interpolated tails, by the store and the temperature."""

_ON_DEVICE = ("class_ids_BK", "logits_BK", "log_tail_BT", "max_logit_B", "valid_B", "valid_bits_BW", "entropy_B")


class Splittable(Protocol):
    """Something with rows."""

    def split(self, sizes: Sequence[int]) -> list[Self]: ...


Rows = TypeVar("Rows", bound=Splittable)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SoftLabels:
    """The teacher's output for each of B rows: its K largest logits, and exactly how much probability is elsewhere.

    They come from `Store.read`, or of a teacher's own logits from `keep_top_k`, and go into a loss:

        labels = softlab.keep_top_k(teacher_logits, k=16)
        loss = softlab.distillation_loss(student_logits, labels, temperature=2.0)
    """

    class_ids_BK: Tensor
    """int64, the class of the largest logit first."""

    logits_BK: Tensor
    """float32, raw: no temperature has been applied; shifted so that the row's largest is 0."""

    log_tail_BT: Tensor
    """float32, one column a temperature, -inf if K = C. Under a softmax head the natural log of the probability outside
    the kept classes; under a sigmoid head the log of the mean of sigmoid(logit / T) over the classes not kept."""

    max_logit_B: Tensor
    """float32, the row's largest raw logit: what was subtracted from `logits_BK`."""

    temperatures: tuple[float, ...]
    """Ascending; the columns of `log_tail_BT`."""

    num_classes: int
    """C, the teacher's classes."""

    head: Head = "softmax"

    absolute: bool = True
    """Whether `max_logit_B` means something. False where only a teacher's probabilities were known, which are the same
    for logits that are all higher by 1."""

    interpolates: bool = True
    """Whether tails can be told between the stored temperatures and above them. False where somebody else has kept the
    K and has told their probabilities alone, as a service does: of its other classes nothing is known but their sum."""

    valid_B: Tensor | None = None
    """int64, how many classes a row really has, the first ones; None where every row has all C. The tail is over those
    alone: of 384 classes of which a row has 20, the other 364 are nobody's."""

    valid_bits_BW: Tensor | None = None
    """uint8, which classes those are, where they aren't the first ones: class c is bit c % 8 of byte c // 8. `valid_B`
    is how many of them are set."""

    entropy_B: Tensor | None = None
    """float32, nats: of the teacher's whole distribution at T = 1, where the entries are an unbiased sample of its
    classes (`keep_sampled`); None where they are its K largest. See `is_sampled`."""

    counts_B: Tensor | None = None
    """int64, on the CPU: how many of the rows belong to each sample in turn; None where each sample has one row. Then B
    counts samples here, and rows everywhere else."""

    origin: Origin | None = None
    """The store that they are from; None of labels that were made in memory."""

    block: "Block | None" = None
    """What these rows were split from."""

    def __len__(self) -> int:
        return len(self.class_ids_BK)

    def __repr__(self) -> str:
        rows = format_count(len(self), "row")
        of_samples = "" if self.counts_B is None else f" of {format_count(len(self.counts_B), 'sample')}"
        temperatures = ", ".join(f"{temperature:g}" for temperature in self.temperatures)
        device = self.class_ids_BK.device
        place = "" if device.type == "cpu" else f", on {device}"
        kept = f"{'sampled, ' if self.is_sampled else ''}K={self.k} of {self.num_classes}"
        return f"SoftLabels({rows}{of_samples}, {kept}, {self.head}, T = {temperatures}{place})"

    @property
    def k(self) -> int:
        return self.class_ids_BK.shape[1]

    @property
    def is_sampled(self) -> bool:
        """Whether an entry's logit plus `max_logit_B` is the log of its weight in an unbiased sample.

        Of a row the K = N + 1 entries are the classes whose probability is 1/N or more, and always the largest one,
        largest first, each weighing its probability; then those that were drawn of the others, by ascending class,
        each weighing the same, and one class may be there twice; then fill of weight 0. There is no tail.
        """
        return self.entropy_B is not None

    def check_kept_largest(self, what: str) -> None:
        """Raises StoreMismatch where the entries are a sample, of which nothing else follows than a sum over classes
        weighted by their probability."""
        if self.is_sampled:
            raise StoreMismatch(
                f"{what} needs a teacher's largest classes and its tail, but these labels are samples of its classes. "
                f"Use `loss.name = kl` at `loss.temperature = 1`, or dump with `dump.selection = topk`."
            )

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "SoftLabels":
        """The same labels on another device; these, where they are there."""
        moved = [tensor.to(device, non_blocking=non_blocking) for tensor in self.tensors()]
        is_there = all(one is other for one, other in zip(moved, self.tensors(), strict=True))
        return self if is_there else self._with_tensors(*moved)

    def split(self, sizes: Sequence[int]) -> "list[SoftLabels]":
        """Those of the first so many samples, the next so many, ..; views of the same memory that know what they are
        parts of."""
        counts = [None] * len(sizes) if self.counts_B is None else list(torch.split(self.counts_B, list(sizes)))
        rows = tuple(size if each is None else int(each.sum()) for size, each in zip(sizes, counts, strict=True))
        parts = zip(*(torch.split(tensor, list(rows)) for tensor in self.tensors()), strict=True)
        made: dict[Hashable, list[Any]] = {}
        return [
            self._with_tensors(
                *part, counts_B=counts[number], block=Block(whole=self, sizes=rows, number=number, made=made)
            )
            for number, part in enumerate(parts)
        ]

    def with_each(self, change: Callable[[Tensor], Tensor]) -> "SoftLabels":
        """The same labels, each of their tensors changed: copied elsewhere, for example."""
        return self._with_tensors(*(change(tensor) for tensor in self.tensors()))

    def pin_memory(self) -> "SoftLabels":
        """The same labels in page-locked memory; torch's loaders call this by its name."""
        return self.with_each(lambda tensor: tensor.pin_memory())

    def alone(self) -> "SoftLabels":
        """The same labels, no longer a part."""
        return self._with_tensors(*self.tensors())

    def at_rows(self, rows_R: Tensor, *, counts_B: Tensor) -> "SoftLabels":
        """Some of the rows, in this order; `counts_B` are how many of them each sample has."""
        return self._with_tensors(*(tensor[rows_R] for tensor in self.tensors()), counts_B=counts_B)

    def __reduce__(self) -> tuple[Any, ...]:
        """All tensors go to another process as one: each costs a loader's main process 0.2 ms. A part goes without what
        it was split from."""
        values = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "block"}
        here = self.class_ids_BK.device
        tensors = {name: each for name, each in values.items() if isinstance(each, Tensor) and each.device == here}
        order = sorted(tensors, key=lambda name: -tensors[name].element_size())  # so that all are aligned
        copies = [tensors[name].clone(memory_format=torch.contiguous_format) for name in order]
        packed = torch.cat([each.view(-1).view(torch.uint8) for each in copies])
        layout = [(name, tensors[name].dtype, tensors[name].shape) for name in order]
        return _unpack, (packed, layout, {name: each for name, each in values.items() if name not in tensors})

    def once_for_all(self, key: Hashable, make: Callable[["SoftLabels"], Rows]) -> Rows:
        """What `make` makes of these labels; of parts, it is made of the whole once and split as they were."""
        block = self.block
        if block is None:
            return make(self)
        if key not in block.made:
            block.made[key] = make(block.whole).split(block.sizes)
        made: Rows = block.made[key][block.number]
        return made

    def log_tail_at(self, temperature: float) -> Tensor:
        """float32 [B], what `log_tail_BT` holds, at any temperature not below the smallest stored one.

        -inf if no class is outside. At a stored temperature this is the stored value. Between stored ones, and above,
        it is interpolated, and an `InterpolatedTail` warning says by how much it may be off. Raises InvalidOption below
        the smallest one, and StoreMismatch for entries that are a sample, which have no tail.
        """
        self.check_kept_largest("the probability outside the kept classes")
        if self.k == self.num_classes:
            return torch.full_like(self.max_logit_B, -math.inf)
        if temperature in self.temperatures:
            return self.log_tail_BT[:, self.temperatures.index(temperature)]
        tails = self.interpolate_log_tail(temperature)
        if not is_told():
            warnings.warn(self._interpolation_note(temperature, tails), InterpolatedTail, stacklevel=2)
        return tails.value_B

    def interpolate_log_tail(self, temperature: float) -> Interpolated:
        """Log tails at a temperature that isn't stored, and between what bounds the true ones are; where classes are
        outside. Raises InvalidOption below the smallest stored temperature.

        The kept logits give the head's weight at any beta = 1/T exactly; only the tail's has to be interpolated. It is
        log(C - K) at beta = 0 without being stored: of a row with fewer classes than C, of its own number. The log of a
        mean sigmoid needs no head, and is log(1/2) there.
        """
        self.check_kept_largest(f"temperature {temperature:g}")
        if not temperature >= self.temperatures[0] or math.isinf(temperature):
            raise InvalidOption(
                f"temperature {temperature:g}: the stored temperatures are {self._stored_in_words}, and a tail can't "
                f"be rebuilt below them. Train at {self.temperatures[0]:g} or more, or dump again with "
                f"{temperature:g} among `dump.temperature`."
            )
        if not self.interpolates:
            raise InvalidOption(
                f"temperature {temperature:g}: of this teacher only the probabilities of {self.k} of "
                f"{self.num_classes:,} classes are known, at T={self._stored_in_words}, and those of the others at "
                f"another temperature don't follow from them. Train at it, with `loss.temperature = "
                f"{self.temperatures[0]:g}`."
            )
        beta, has_none_B = 1 / temperature, self.log_tail_BT.isneginf().any(dim=1)
        stored = {1 / each: log_tail_B for each, log_tail_B in zip(self.temperatures, self.log_tail_BT.T, strict=True)}
        if self.head == "sigmoid":
            knots = stored | {0.0: torch.full_like(self.max_logit_B, math.log(0.5))}
            tails = interpolate_mean_sigmoid(knots, beta, largest_B=self.logits_BK[:, -1] + self.max_logit_B)
        else:
            weights = interpolate_convex(self._log_tail_weights(stored), beta, steepest_B=self.logits_BK[:, -1])
            log_head_B = self._log_head_weight(beta)
            tails = weights.changed(lambda log_weight_B: functional.logsigmoid(log_weight_B - log_head_B))
        return tails.changed(lambda log_tail_B: log_tail_B.masked_fill(has_none_B, -math.inf))

    def _interpolation_note(self, temperature: float, tails: Interpolated) -> str:
        """Of a store what its first batch told: Python shows the same text once, and the others needn't be waited
        for."""
        known = None if self.origin is None else _FIRST_ERRORS.get((self.origin, temperature))
        error = tail_error(tails) if known is None else known
        if self.origin is not None:
            _FIRST_ERRORS[self.origin, temperature] = error
        return (
            f"temperature {temperature:g} is not stored (stored: {self._stored_in_words}): its tail mass is "
            f"interpolated: {error}"
        )

    @property
    def _stored_in_words(self) -> str:
        return ", ".join(f"{stored:g}" for stored in self.temperatures)

    def _log_tail_weights(self, stored: dict[float, Tensor]) -> dict[float, Tensor]:
        knots = {knot: log_odds(log_tail_B) + self._log_head_weight(knot) for knot, log_tail_B in stored.items()}
        log_num_tail_B = self.num_tail_B.clamp(min=1).log()
        if self.valid_B is None:  # as ever to the bit: torch's logarithm of 7 is another than Python's
            log_num_tail_B = torch.full_like(self.max_logit_B, math.log(self.num_classes - self.k))
        return knots | {0.0: log_num_tail_B}

    @property
    def num_tail_B(self) -> Tensor:
        """float32 [B], the classes of each row that are not kept: C - K, or fewer where rows have fewer classes."""
        if self.valid_B is None:
            return torch.full_like(self.max_logit_B, float(self.num_classes - self.k))
        return (self.valid_B - self.k).clamp(min=0).to(self.max_logit_B.dtype)

    def _log_head_weight(self, beta: float) -> Tensor:
        return (self.logits_BK * beta).logsumexp(dim=1)

    def tensors(self) -> tuple[Tensor, ...]:
        """All that lies on a device."""
        return tuple(getattr(self, name) for name in self._tensor_names())

    def _tensor_names(self) -> list[str]:
        return [name for name in _ON_DEVICE if getattr(self, name) is not None]

    def _with_tensors(self, *tensors: Tensor, block: "Block | None" = None, **others: Any) -> "SoftLabels":
        """The others, as `tensors` gave them; a part only of `block`."""
        changes: dict[str, Any] = dict(zip(self._tensor_names(), tensors, strict=True))
        return replace(self, block=block, **changes, **others)


def join_labels(parts: Sequence[SoftLabels]) -> SoftLabels:
    """The rows of several batches, one behind the other."""
    columns = zip(*(part.tensors() for part in parts), strict=True)
    return parts[0]._with_tensors(*(torch.cat(column) for column in columns))


def _unpack(packed: Tensor, layout: list[tuple[str, torch.dtype, torch.Size]], others: dict[str, Any]) -> SoftLabels:
    sizes = [dtype.itemsize * shape.numel() for _, dtype, shape in layout]
    values = dict(others)
    for (name, dtype, shape), part in zip(layout, torch.split(packed, sizes), strict=True):
        values[name] = part.view(dtype).view(shape)
    return SoftLabels(**values)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Block:
    """Labels that were read together for several batches: what a loss needs of the teacher alone is computed once for
    all of them, because many small operations cost more than few large ones."""

    whole: SoftLabels
    sizes: tuple[int, ...]
    number: int
    """Of this part."""

    made: dict[Hashable, list[Any]]
    """Of the whole and split, by what was asked for; shared by all parts."""


def log_odds(log_probability: Tensor) -> Tensor:
    """log(p / (1 - p)) from log p, precise however small p is; +inf for p = 1."""
    return log_probability - torch.log(-torch.expm1(log_probability))

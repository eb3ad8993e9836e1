"""How good the rows of an output are, as sums that add up."""

import math
from collections.abc import Sequence
from typing import TypeVar

from msgspec import UNSET, UnsetType

from softlab.manifest.value_types import Count, Record

Number = TypeVar("Number", int, float)


class Statistics(Record, frozen=True, kw_only=True, gc=False):
    """Of one output of kind `classes`: sums over rows, so that those of shards add up to those of the store."""

    rows: Count
    rows_with_target: Count
    correct: Count
    """Rows whose largest logit is at the hard target."""

    captured_mass: tuple[float, ...]
    """Sum over rows of the kept classes' probability, one value a temperature; under a sigmoid head of the share that
    they have of the sum of all classes' probabilities."""

    clipped_logits: Count
    """Logits that the coding could not hold within its rounding."""

    coding_kl: tuple[float, ...] | UnsetType = UNSET
    """Of the uint8 coding, where a dump measured it: sum over rows of the KL from the teacher's kept classes and tail
    to the stored ones, in nats, one value a temperature."""

    coding_shift: tuple[float, ...] | UnsetType = UNSET
    """Likewise of how far a loss's value moves: |sum of p log p of the stored ones - that of the teacher's|."""

    entries: Count | UnsetType = UNSET
    """Of rows that are sampled: the classes that are stored of all of them."""

    entropy: float | UnsetType = UNSET
    """Likewise: the sum over rows of the entropy of all classes, in nats."""

    @property
    def entries_per_row(self) -> float | None:
        """None where each row has K."""
        return None if self.entries is UNSET else self.entries / max(self.rows, 1)

    @property
    def mean_entropy(self) -> float | None:
        """Nats, of all classes; None where that isn't known."""
        return None if self.entropy is UNSET else self.entropy / max(self.rows, 1)

    @property
    def coding_cost(self) -> tuple[float, float] | None:
        """Nats a row at the temperature where they are highest: the KL of what is stored, and by how much a loss's
        value moves; None where that wasn't measured."""
        if self.coding_kl is UNSET or self.coding_shift is UNSET:
            return None
        rows = max(self.rows, 1)
        return max(self.coding_kl) / rows, max(self.coding_shift) / rows

    @property
    def accuracy(self) -> float | None:
        return self.correct / self.rows_with_target if self.rows_with_target else None

    @property
    def mean_captured_mass(self) -> tuple[float, ...]:
        """0 where there are no rows, as samples with units may have none."""
        return tuple(total / max(self.rows, 1) for total in self.captured_mass)


def add_up(statistics: Sequence[Statistics]) -> Statistics:
    """Of several shards together; the same to the last bit everywhere, as `sum` of floats is not before Python 3.12."""
    return Statistics(
        rows=sum(each.rows for each in statistics),
        rows_with_target=sum(each.rows_with_target for each in statistics),
        correct=sum(each.correct for each in statistics),
        captured_mass=_added([each.captured_mass for each in statistics]),
        clipped_logits=sum(each.clipped_logits for each in statistics),
        coding_kl=_added_where_all([each.coding_kl for each in statistics]),
        coding_shift=_added_where_all([each.coding_shift for each in statistics]),
        entries=_total([each.entries for each in statistics]),
        entropy=_total([each.entropy for each in statistics]),
    )


def _added(sums: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    return tuple(math.fsum(column) for column in zip(*sums, strict=True))


def _total(counts: Sequence[Number | UnsetType]) -> Number | UnsetType:
    """Unset where they aren't counted."""
    known = [each for each in counts if each is not UNSET]
    return sum(known[1:], known[0]) if known and len(known) == len(counts) else UNSET


def _added_where_all(sums: Sequence[tuple[float, ...] | UnsetType]) -> tuple[float, ...] | UnsetType:
    """Unset where a part, such as views that an older softlab added, wasn't measured, or is of other temperatures."""
    known = [each for each in sums if each is not UNSET]
    is_known = len(known) == len(sums) and len({len(each) for each in known}) == 1
    return _added(known) if is_known else UNSET

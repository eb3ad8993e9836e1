"""Which shards of a dump a process does: `3/8`, one of eight static shares, or their numbers, `5` or `0,4,8-11`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from softlab.errors import InvalidOption
from softlab.shards import Shard
from softlab.store.shard_numbers import parse_numbers


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """Number `index` of `count` static shares, counted from 0; or some shards by their numbers."""

    index: int = 0
    count: int = 1
    ranges: Sequence[tuple[int, int]] = ()
    """First and last number of each; empty for a static share."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises InvalidOption."""
        share = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text.strip())
        if share is not None:
            return cls._static(int(share[1]), int(share[2]))
        try:
            return cls(ranges=parse_numbers(text))
        except ValueError:
            raise InvalidOption(
                f"shards = {text}: expected I/N, one of N shares, or numbers of shards. Write `shards = 0/8`, or "
                f"`shards = 0,4,8-11`."
            ) from None

    @classmethod
    def _static(cls, index: int, count: int) -> Self:
        if index >= count:
            last = f"the last of {count} shares is `shards = {count - 1}/{count}`" if count else "N is 1 or more"
            raise InvalidOption(f"shards = {index}/{count}: I of I/N counts from 0, so that {last}. Change `shards`.")
        return cls(index=index, count=count)

    @property
    def is_of_one_shard(self) -> bool:
        """Whether a shard was named alone."""
        return len(self.ranges) == 1 and self.ranges[0][0] == self.ranges[0][1]

    def numbers(self, shards: Sequence[Shard]) -> list[int]:
        """Of these shards, which are all of a dump, ascending. Raises InvalidOption for a number that none has."""
        if not self.ranges:
            own = set(share_of(shards, index=self.index, count=self.count))
            return [number for number, shard in enumerate(shards) if shard in own]
        last = max(last for _, last in self.ranges)
        if last >= len(shards):
            raise InvalidOption(
                f"shards: there is no shard {last}, they are 0 to {len(shards) - 1}. Change `shards`; I/N is a share."
            )
        return sorted({number for first, last in self.ranges for number in range(first, last + 1)})


def share_of(shards: Sequence[Shard], *, index: int, count: int) -> list[Shard]:
    """One of `count` shares. It has the same samples in every view, where there are enough of them, as decoded samples
    are kept."""
    parts = sorted({shard.part for shard in shards})
    if len(parts) < count:
        return list(shards[index::count])
    own = set(parts[index::count])
    return [shard for shard in shards if shard.part in own]

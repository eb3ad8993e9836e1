"""Rows that say nothing, as all of their classes are masked with a finite number such as -1e4."""

# Shape letters: R rows of an output, S samples of a shard.

import warnings
from dataclasses import dataclass, field

import numpy as np
import torch

from softlab.amounts import format_count
from softlab.errors import SilentRows, first_few
from softlab.labels.soft_labels import SoftLabels
from softlab.sources.source import Source
from softlab.teacher.commit import ShardOutput

MASKED = -1e3
"""No logit of a class that isn't masked is as low."""


@dataclass(kw_only=True, slots=True)
class Minima:
    """What was found in the shards that were committed."""

    logits: list[float] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)

    def look_at(self, output: ShardOutput, source: Source) -> None:
        """A shard whose values are finite."""
        start = output.shard.start
        for batch in (each.wait() for each in output.batches):
            for name, labels in batch.labels.items():
                found_R = np.flatnonzero(_are_minima(labels))
                counts_S = batch.counts_B if name in batch.with_units else None
                sample_R = found_R if counts_S is None else np.repeat(np.arange(len(counts_S)), counts_S)[found_R]
                self.logits += labels.max_logit_B[torch.from_numpy(found_R)].tolist()
                self.keys += [source.keys[start + sample] for sample in sample_R.tolist()]
            start += len(batch.is_finite_B)

    def tell(self) -> None:
        """Warns with SilentRows, where there are any."""
        if self.logits:
            lowest, highest = min(self.logits), max(self.logits)
            numbers = f"{lowest:g}" if lowest == highest else f"{lowest:g} to {highest:g}"
            warnings.warn(
                f"the teacher gave a row of minima, {numbers} in all places that are kept, for "
                f"{format_count(len(self.keys), 'row')}, such as {first_few(list(dict.fromkeys(self.keys)))}: all of "
                f"their classes are masked, and students would learn that they are alike. Mask fewer classes, or leave "
                f"such samples out",
                SilentRows,
                stacklevel=3,
            )


def _are_minima(labels: SoftLabels) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    """bool [R]: the largest logit is one of a masked class, and so are all others that are kept."""
    is_kept_RK = labels.logits_BK.isfinite()
    are_alike_R = ((labels.logits_BK == 0) | ~is_kept_RK).all(dim=1)
    found_R: np.ndarray[tuple[int], np.dtype[np.bool_]] = (are_alike_R & (labels.max_logit_B <= MASKED)).numpy()
    return found_R

"""What is known of the store that soft labels are from, so that a loss can tell what it will miss."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """A store, as far as it matters to a loss."""

    name: str
    k: int
    num_classes: int
    is_multi_label: bool
    """Whether its head is a sigmoid."""

    temperatures: tuple[float, ...]
    captured_mass: tuple[float, ...]
    """Of the kept classes at each temperature, mean over rows; under a sigmoid head their share of the summed
    probability."""

    num_logits: int
    clipped_logits: int
    """How many of them the coding could not hold within its rounding."""

    gap_step: float | None
    """Nats; None in other codings than uint8."""

    def mass_at(self, temperature: float) -> float:
        """Interpolated over 1 / T between stored temperatures, and outside of them that of the nearest; 1 where all
        classes are kept."""
        if self.k == self.num_classes:
            return 1.0
        betas = [1 / each for each in self.temperatures]
        return float(np.interp(1 / temperature, betas[::-1], self.captured_mass[::-1]))

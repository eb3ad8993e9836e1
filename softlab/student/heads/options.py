"""What one head of a student learns, and how."""

import math
from dataclasses import dataclass

from softlab.errors import InvalidOption
from softlab.labels.losses import StudentLoss


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadOptions:
    """One head of a student: what its model returns by the head's name, and what that learns."""

    output: str | None = None
    """The stored output that it learns; default: the one of the head's own name, or the only one of its store."""

    store: str | None = None
    """Which of the stores holds it, as it is named there or by the last part of its path.

    Needed where several hold an output of this name."""

    target: str | None = None
    """Its hard targets, by the name of their label column; default: those of the head's own name, if there are any."""

    weight: float = 1.0
    """Of its loss in the sum of the heads' losses; 0: it is measured, and learns nothing."""

    alpha: float | None = None
    """Weight of its distillation loss; 1 - alpha is that of cross-entropy on its hard targets. Default: as
    teachers.alpha says, and 1 beside a loss on values."""

    loss: StudentLoss | None = None
    """Its loss; default: that of the student."""

    def __post_init__(self) -> None:
        if not 0 <= self.weight < math.inf:
            raise InvalidOption(f"weight = {self.weight}: expected a number of 0 or more.")
        if self.alpha is not None and not 0 <= self.alpha <= 1:
            raise InvalidOption(f"alpha = {self.alpha}: expected 0 to 1.")

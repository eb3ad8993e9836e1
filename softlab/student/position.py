"""How far a training run is, as each of its checkpoints says."""

import msgspec

from softlab.evaluation.evaluation import Evaluation
from softlab.student.pruning import Sparsity


class Stopped(msgspec.Struct, frozen=True, kw_only=True):
    """A student that stopped early."""

    epoch: int
    """The last one that it learnt in."""

    sparsity: Sparsity | None


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """How far a run is."""

    step: int
    """Steps done."""

    metrics_bytes: int
    """Of metrics.jsonl at that step: what a killed run wrote after it is cut off."""

    best: dict[str, Evaluation]
    """By student: the best epoch so far."""

    last: dict[str, Evaluation]
    train_loss: dict[str, float]
    """By student: of the last finished epoch."""

    seconds: dict[str, float]
    """By student: time spent in its steps."""

    also: dict[str, dict[str, Evaluation]] = {}
    """By student and name of a further validation source: of the last epoch."""

    since_best: dict[str, int] = {}
    """By student: the epochs after its best one."""

    stopped: dict[str, Stopped] = {}
    """By student: of those that stopped early."""

    errors: dict[str, str]
    """By student: why it was set aside."""

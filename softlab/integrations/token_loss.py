"""The loss of a causal language model on stored rows of its tokens, computed inside its own forward pass."""

# Shape letters: B samples in a batch, L tokens of the longest one, R rows of all samples, C classes.

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from softlab.labels.lazy_logits import LazyLogits
from softlab.labels.losses import DecisionLoss, KlLoss, decision_loss
from softlab.labels.losses.chunked import chunked_loss
from softlab.labels.losses.sampled_targets import with_targets
from softlab.labels.soft_labels import SoftLabels
from softlab.models.causal_reader import CausalReader
from softlab.models.forward import LOGITS

LOSS = "loss"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TokenRows:
    """What is learnt of a batch."""

    labels: SoftLabels
    rows_R: Tensor
    """int64, where the model gives each row: a place in [B, L], flattened."""

    targets_R: Tensor
    """int64, the text's own tokens."""

    def loss(self, logits: LazyLogits, *, alpha: float, options: DecisionLoss) -> Tensor:
        """alpha * distillation + (1 - alpha) * cross-entropy, summed over the rows; a float32 scalar."""
        labels = self.labels
        if labels.is_sampled and isinstance(options, KlLoss) and alpha < 1:
            labels, alpha = with_targets(labels, self.targets_R, alpha=alpha), 1.0

        def loss_of(logits_RC: Tensor, rows: slice) -> Tensor:
            some = replace(labels.with_each(lambda tensor: tensor[rows]), counts_B=None)
            loss = decision_loss(logits_RC, some, targets_B=self.targets_R[rows], options=options) * len(some)
            if alpha == 1:
                return loss
            return alpha * loss + (1 - alpha) * functional.cross_entropy(
                logits_RC, self.targets_R[rows], reduction="sum"
            )

        return chunked_loss(logits.flatten_rows()[self.rows_R], loss_of)


@contextmanager
def giving_loss(model: nn.Module, reader: CausalReader, loss_of: Callable[[LazyLogits], Tensor]) -> Iterator[None]:
    """Inside, a call of the model gives its loss alone. It is computed before the forward pass ends: where weights are
    sharded, those of the output layer are whole until then."""

    def forward(**inputs: Any) -> dict[str, Tensor]:
        return {LOSS: loss_of(reader(**inputs)[LOGITS])}

    own = model.__dict__.get("forward")  # as accelerate sets it
    model.forward = forward
    try:
        yield
    finally:
        if own is None:
            del model.forward
        else:
            model.forward = own

"""What a student with several heads is trained on: the weighted sum of what each head is trained on."""

# Shape letters: B rows in a batch, C classes.

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from softlab.errors import InvalidOption, StoreMismatch
from softlab.labels.losses import LossOnValues
from softlab.labels.losses.features import feature_loss
from softlab.loading.batch import Batch
from softlab.student.feature_losses import FeatureLoss
from softlab.student.objective import Objective


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadsObjective:
    """The sum over heads of weight * objective, each of what that head gives and the batch as it sees it, + the feature
    losses of the whole student."""

    heads: Mapping[str, Objective]
    """Of those heads that learn."""

    weights: Mapping[str, float]
    gives_values: Mapping[str, bool]
    """Of all heads, those too that are measured alone: whether they give values, and not logits."""

    features: Mapping[str, FeatureLoss] = field(default_factory=dict)

    @property
    def on_values(self) -> dict[str, LossOnValues]:
        """The losses of the heads that learn stored values."""
        losses = {name: objective.loss for name, objective in self.heads.items()}
        return {name: loss for name, loss in losses.items() if isinstance(loss, LossOnValues)}

    def __call__(
        self,
        outputs: Mapping[str, Tensor],
        batch: Batch,
        *,
        features: Mapping[str, Tensor] | None = None,
        progress: float = 0.0,
    ) -> Tensor:
        """A float32 scalar, `progress` of the run (0 to 1) done. `outputs` are those of the heads, values projected.
        Raises as `Objective`, naming the head."""
        losses = [
            self.weights[name] * self._loss_of(name, outputs[name], batch, progress=progress) for name in self.heads
        ]
        for name, options in self.features.items():
            found = (features or {})[name]
            losses.append(options.weight * feature_loss(found, batch.features[name], loss=options.loss))
        return torch.stack(losses).sum()

    def _loss_of(self, name: str, given: Tensor, batch: Batch, *, progress: float) -> Tensor:
        try:
            return self.heads[name](given, batch.of_head(name), progress=progress)
        except (InvalidOption, StoreMismatch) as error:
            raise type(error)(f"head {name}: {error}") from error

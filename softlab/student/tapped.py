"""A student whose named layers are tapped: its logits, and its features projected to the teacher's width."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from softlab.loading.batch import Batch
from softlab.models.device import Autocast
from softlab.models.forward import logits_of
from softlab.models.taps import FeatureTaps
from softlab.student.feature_losses import FeatureLoss
from softlab.student.projector import make_projector


class TappedStudent:
    """A module on its device, with one projector for each feature that it learns; the projectors train with it, but
    are no part of its weights."""

    def __init__(
        self,
        name: str,
        module: nn.Module,
        features: Mapping[str, FeatureLoss],
        *,
        device: torch.device,
        autocast: Autocast,
        compiled: bool,
        example: Batch | None,
        seed: int,
        input_index: int = 0,
    ) -> None:
        """`example` tells the shapes of the features, where there are any. Raises ModelError for a layer that isn't
        there, StoreMismatch for features that can't be compared."""
        self.module, self._device, self._autocast, self._input_index = module, device, autocast, input_index
        self._taps = FeatureTaps(module, {key: loss.tap for key, loss in features.items()})
        self._forward: Callable[..., object] = torch.compile(module) if compiled else module
        self.projectors = nn.ModuleDict()
        if features:
            assert example is not None, "features have an example"
            self.projectors = self._make_projectors(name, features, example, seed=seed).to(device)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All that train."""
        both = [*self.module.parameters(), *self.projectors.parameters()]
        return [parameter for parameter in both if parameter.requires_grad]

    def logits(self, batch: Batch) -> Tensor:
        """[B, C] on the device, in the dtype of autocast."""
        inputs = batch.inputs[self._input_index].inputs
        return logits_of(self._forward, inputs, device=self._device, autocast=self._autocast)

    def logits_and_features(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The same, and the features of the same forward pass, projected."""
        if not self.projectors:
            return self.logits(batch), {}
        with self._taps:
            logits_BC = self.logits(batch)
            found = self._taps.collect()
        return logits_BC, {name: self.projectors[_key(name)](feature) for name, feature in found.items()}

    def _make_projectors(
        self, student: str, features: Mapping[str, FeatureLoss], example: Batch, *, seed: int
    ) -> nn.ModuleDict:
        with torch.inference_mode(), self._taps:
            self.module.eval()
            self.logits(example)
            found = self._taps.collect()
        with torch.random.fork_rng([]):
            torch.default_generator.manual_seed(seed)
            return nn.ModuleDict(
                {
                    _key(name): make_projector(
                        found[name].shape[1:],
                        example.features[name].shape[1:],
                        kind=loss.projector,
                        normalisation=loss.normalisation,
                        loss=loss.loss,
                        layer=f"student {student}: layer {loss.layer}",
                    )
                    for name, loss in features.items()
                }
            )


def _key(feature: str) -> str:
    """A feature may have a name that ModuleDict keeps for itself, such as `values`."""
    return f"of-{feature}"

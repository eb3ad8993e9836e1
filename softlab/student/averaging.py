"""An exponential moving average of a student's weights, which often generalises better than the last ones."""

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class WeightAverage:
    """After each step: average = decay * average + (1 - decay) * weights; the first step's weights begin it.

    Buffers, such as running means and the masks of pruning, are those of the last step.
    """

    def __init__(self, module: nn.Module, *, decay: float) -> None:
        self._averaged = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(decay))  # type: ignore[no-untyped-call]

    @property
    def module(self) -> nn.Module:
        """With the averaged weights, a module of its own."""
        return self._averaged.module

    def update(self, module: nn.Module) -> None:
        self._averaged.update_parameters(module)

    def state(self) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self._averaged.state_dict()
        return state

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        self._averaged.load_state_dict(tensors)

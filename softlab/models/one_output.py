"""A model that returns several outputs, as one that returns a single one of them."""

from collections.abc import Mapping

from torch import nn

from softlab.errors import ModelError, suggest
from softlab.models.forward import by_name


class OneOutput(nn.Module):
    """Gives the output of one name alone, and raises ModelError where the model has none of that name."""

    def __init__(self, module: nn.Module, name: str) -> None:
        super().__init__()
        self.module, self.name = module, name

    def forward(self, *positional: object, **named: object) -> object:
        outputs: Mapping[str, object] = by_name(self.module(*positional, **named))
        if self.name not in outputs:
            raise ModelError(
                f"the model returns no output {self.name!r} (it returns: {', '.join(outputs) or 'nothing by name'}). "
                f"{suggest(self.name, outputs)}"
            )
        return outputs[self.name]

"""Low-rank adapters of peft (Hu et al. 2021) in a model of transformers; its own weights stay as they are."""

from collections.abc import Mapping

from torch import nn

from softlab.errors import ModelError


def add_adapters(model: nn.Module, options: Mapping[str, object]) -> None:
    """Puts adapters into the model, as `peft.LoraConfig` names them: `r`, `target_modules`, `lora_alpha` and so on.
    They alone learn from then on. Raises ModelError where peft is missing, and ValueError or TypeError of peft's."""
    try:
        import peft
    except ImportError as error:
        raise ModelError("lora: peft isn't installed. Install it: pip install 'softlab[lora]'") from error
    whole = {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}
    peft.inject_adapter_in_model(peft.LoraConfig(**whole), model)

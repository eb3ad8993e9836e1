"""Students that compute their activations a second time in the backward pass, in place of keeping them."""

from torch import nn

from softlab.errors import InvalidOption

SWITCHES = {
    "activation_checkpointing_enable": "activation_checkpointing_kwargs",
    "gradient_checkpointing_enable": "gradient_checkpointing_kwargs",
}
"""How models of transformers are told so, and what takes torch's own options; the second is older."""


def checkpoint_activations(module: nn.Module, *, student: str) -> None:
    """Gradients stay what they are (Chen et al. 2016). Raises InvalidOption for a model that can't do that."""
    for name, options in SWITCHES.items():
        for each in module.modules():
            if hasattr(each, name) and getattr(each, "supports_gradient_checkpointing", True):
                getattr(each, name)(**{options: {"use_reentrant": False}})
                return
    raise InvalidOption(
        f"device.checkpoint_activations: student {student} is a {type(module).__name__}, which can't do that; most "
        f"models of `hf:` can. Leave it out, or raise `run.accumulate`."
    )

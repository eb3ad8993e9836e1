"""From the inputs of a model to its outputs by name, whatever its forward returns them in."""

# Shape letters: B samples in a batch, C classes.

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from softlab.errors import ModelError, SoftlabError
from softlab.labels.lazy_logits import LazyLogits
from softlab.models.device import Autocast, autocast_on, floating_dtype

ONLY = "output"
"""Name of the output of a model that returns a tensor."""

LOGITS = "logits"
"""And of the one that students learn with, where a model returns several."""

Output = Tensor | LazyLogits
"""One of the things that a model returns."""


class ModelInputs(Protocol):
    """What a model is called with; `softlab.modalities.inputs.Inputs` is one."""

    @property
    def positional(self) -> tuple[Tensor, ...]: ...

    @property
    def named(self) -> Mapping[str, Tensor]: ...

    def tensors(self) -> Iterator[Tensor]: ...

    def __len__(self) -> int:
        """How many samples."""
        ...


def outputs_of(
    module: Callable[..., object], inputs: ModelInputs, *, device: torch.device, autocast: Autocast
) -> dict[str, Output]:
    """All tensors that a model returns by name, on the device, in the dtype of autocast. A model in half precision gets
    its inputs in the dtype of its own weights.

    A single tensor is named `output`. Those of a tuple or list are named 0, 1 and so on, or as a named tuple says;
    those of a mapping or an object have its keys or attributes. LazyLogits count as a tensor. Raises ModelError for a
    model that can't run on such inputs, or returns no tensor with one row a sample.
    """
    try:
        with autocast_on(device, autocast):
            as_its_weights = _in_dtype(module, autocast=autocast)
            named = {name: as_its_weights(tensor) for name, tensor in inputs.named.items()}
            returned = module(*map(as_its_weights, inputs.positional), **named)
    except SoftlabError:
        raise
    except Exception as error:  # whatever code of others raises here is an answer to the inputs it was given
        raise ModelError(_refusal(inputs, error)) from error
    outputs = {name: value for name, value in by_name(returned).items() if isinstance(value, Output)}
    num_rows = len(next(inputs.tensors()))  # fewer than samples where these share rows
    if not any(_has_rows(value, num_rows) for value in outputs.values()):
        raise ModelError(
            f"the model returned {_describe(returned, outputs)} for {len(inputs)} samples, expected one row a sample. "
            f"Wrap it in a module that returns them."
        )
    return outputs


def _in_dtype(module: Callable[..., object], *, autocast: Autocast) -> Callable[[Tensor], Tensor]:
    dtype = floating_dtype(module) if isinstance(module, nn.Module) and autocast == "none" else None
    return lambda tensor: tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor


def by_name(returned: object) -> Mapping[str, object]:
    """What a model returns by name, tensors and all else."""
    if isinstance(returned, Output):
        return {ONLY: returned}
    if isinstance(returned, Mapping):
        return {str(name): value for name, value in returned.items()}
    if isinstance(returned, tuple | list):
        names = getattr(returned, "_fields", range(len(returned)))
        return {str(name): value for name, value in zip(names, returned, strict=True)}
    return getattr(returned, "__dict__", {})


def _has_rows(output: Output, num_rows: int) -> bool:
    return output.ndim > 0 and len(output) == num_rows


def _refusal(inputs: ModelInputs, error: Exception) -> str:
    reason = str(error).strip().partition("\n")[0].rstrip(".")
    hint = "Make them what it expects with the options of [input], such as `input.size` and `input.channels`"
    if isinstance(error, torch.OutOfMemoryError):
        hint = "Lower the batch size (`dump.batch_size`, `run.batch_size`)"
    if "more than 1 value per channel" in reason:
        hint = "Batch normalisation learns from two samples or more: raise `run.batch_size`"
    shapes = ", ".join(str(list(tensor.shape)) for tensor in inputs.tensors())
    return f"the model can't run on inputs of shape {shapes}: {type(error).__name__}: {reason}. {hint}."


def _describe(returned: object, outputs: Mapping[str, Output]) -> str:
    if not outputs:
        return f"a {type(returned).__name__}"
    if list(outputs) == [ONLY]:
        return f"a tensor of shape {list(outputs[ONLY].shape)}"
    return "the outputs " + ", ".join(f"{name} {list(value.shape)}" for name, value in outputs.items())

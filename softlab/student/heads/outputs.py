"""The outputs of a student's model by the names of its heads, one row a sample each."""

# Shape letters: B rows in a batch, C classes.

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from softlab.errors import ModelError, suggest
from softlab.labels.lazy_logits import LazyLogits
from softlab.models.device import Autocast
from softlab.models.forward import ModelInputs, Output, outputs_of
from softlab.models.rows import classes_as_rows, values_as_rows


def heads_of(
    module: Callable[..., object],
    inputs: ModelInputs,
    *,
    heads: Mapping[str, bool],
    student: str,
    device: torch.device,
    autocast: Autocast,
) -> dict[str, Tensor]:
    """Logits [B, C] of each head, or the values [B, ...] of one that is true in `heads`; on the device, in the dtype of
    autocast. Raises ModelError as `outputs_of`, and for a model without an output of a head's name, or with several
    rows a sample there."""
    outputs = outputs_of(module, inputs, device=device, autocast=autocast)
    missing = [name for name in heads if name not in outputs]
    if missing:
        found = ", ".join(f"{name} {list(value.shape)}" for name, value in outputs.items())
        raise ModelError(
            f"student {student}: its model returns the outputs {found}, and none for the head {missing[0]!r}. "
            f"{suggest(missing[0], outputs)} Return a dict, named tuple or object with an output of each head's name "
            f"({', '.join(heads)}), or name the head as the model does."
        )
    return {
        name: _rows_of(outputs[name], name=name, gives_values=values, student=student, num_samples=len(inputs))
        for name, values in heads.items()
    }


def _rows_of(output: Output, *, name: str, gives_values: bool, student: str, num_samples: int) -> Tensor:
    if isinstance(output, LazyLogits):
        output = output.whole()
    read = values_as_rows if gives_values else classes_as_rows
    rows = read(output, name=name, num_samples=num_samples)
    if rows.counts_B is not None:
        raise ModelError(
            f"student {student}: its output {name} has the shape {list(output.shape)} for {num_samples} samples, a row "
            f"for each position, and a head learns one row a sample. Return [{num_samples}, classes], or train it as "
            f"the only output of a student."
        )
    return rows.known

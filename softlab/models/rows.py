"""The one place where an output with several rows a sample becomes rows.

A classifier gives [B, C]: one row a sample. A model that answers at each position gives [B, L, C] or, a convolutional
one, [B, C, H, W]: L rows a sample, or H * W. Behind this file there are only rows [R, C], all rows of a sample one
behind the other. So selection, coding, losses and metrics know nothing of positions.
"""

# Shape letters: B samples in a batch, L positions of a sample, R rows of all samples that count, C classes.

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from softlab.errors import ModelError
from softlab.labels.lazy_logits import LazyLogits
from softlab.models.device import Autocast
from softlab.models.forward import LOGITS, ONLY, ModelInputs, Output, outputs_of

MASK = "attention_mask"
"""The input that tells tokens from what fills texts up."""


class CountedRows(Protocol):
    """Which positions count, as a modality says it; `softlab.modalities.inputs.Units` is one."""

    @property
    def rows_B(self) -> Tensor:
        """int64, how many rows each sample has."""
        ...

    @property
    def keys_R(self) -> Tensor:
        """int64, where each row is in the output, flattened to [B * L, ...]."""
        ...

    @property
    def numbers_R(self) -> Tensor | None:
        """int64, which unit of its sample each row is; None where it is its position."""
        ...

    @property
    def num_sequences(self) -> int | None:
        """How many rows of [L, ...] the output has, where samples share some; None for one a sample."""
        ...

    @property
    def length(self) -> int | None:
        """L, by which `keys_R` count; None where it is the output that tells it."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class OutputRows:
    """An output as rows."""

    rows: Tensor | LazyLogits
    """[R, ...], or [B, ...] where each sample has one row."""

    counts_B: Tensor | None = None
    """int64, how many rows each sample has; None where it has one."""

    positions_R: Tensor | None = None
    """int64, which position, or which unit with a number of its own, of its sample each row is."""

    @property
    def known(self) -> Tensor:
        """The rows; of logits that aren't computed yet, the hidden states that they are computed from."""
        return self.rows.hidden if isinstance(self.rows, LazyLogits) else self.rows

    def extent(self, sample: int) -> slice:
        """Which rows are those of one sample of the batch."""
        if self.counts_B is None:
            return slice(sample, sample + 1)
        stop = int(self.counts_B[: sample + 1].sum())
        return slice(stop - int(self.counts_B[sample]), stop)


def classes_as_rows(output: Output, *, name: str, num_samples: int, counted: CountedRows | None = None) -> OutputRows:
    """Of logits over classes: [B, C], [B, L, C] or [B, C, H, W]. Raises ModelError for another shape."""
    _check_samples(output, name=name, num_samples=_num_sequences(output, counted, num_samples))
    if output.ndim == 2:
        return OutputRows(rows=output)
    if output.ndim == 3:
        return _positions_as_rows(output, counted)
    if output.ndim == 4 and isinstance(output, Tensor):
        return _positions_as_rows(output.flatten(start_dim=2).movedim(1, -1), counted)
    raise ModelError(
        f"output {name}: has the shape {list(output.shape)} for {num_samples} samples, expected [{num_samples}, "
        f"classes], [{num_samples}, positions, classes] or [{num_samples}, classes, height, width]. Take another one, "
        f"or store it as it is with `dump.output = {name}:values`."
    )


def logits_of(
    module: Callable[..., object],
    inputs: ModelInputs,
    *,
    device: torch.device,
    autocast: Autocast,
    counted: CountedRows | None = None,
    joined: Sequence[str] = (),
) -> OutputRows:
    """Logits over classes as rows, on the device, in the dtype of autocast: all that the model returns, where that is
    one tensor, or its output `logits`. Where several are `joined`, these: of each sample a row of each. Raises
    ModelError as `outputs_of`, and for a model without such an output."""
    outputs = outputs_of(module, inputs, device=device, autocast=autocast)
    if joined:
        return _joined_rows(outputs, joined, num_samples=len(inputs))
    logits = outputs.get(ONLY, outputs.get(LOGITS))
    if logits is None:
        found = ", ".join(f"{name} {list(value.shape)}" for name, value in outputs.items())
        raise ModelError(
            f"the model returned the outputs {found} for {len(inputs)} samples, expected logits [{len(inputs)}, "
            f"classes] as a tensor or as `{LOGITS}`. Wrap it in a module that returns them."
        )
    check_counted(logits, inputs, name=LOGITS, counted=counted)
    return classes_as_rows(logits, name=LOGITS, num_samples=len(inputs), counted=counted)


def check_counted(output: Output, inputs: ModelInputs, *, name: str, counted: CountedRows | None) -> None:
    """Raises ModelError for classes of each token, where nothing tells which tokens only fill a text up."""
    if counted is None and output.ndim == 3 and MASK in inputs.named:
        raise ModelError(
            f"output {name}: has the shape {list(output.shape)}: a row for each token, those that fill texts up too. "
            f"Say `input.unit = word`: then each word has a row; or of a causal language model `input.modality = "
            f"tokens`. (A modality of your own tells them as `units`.)"
        )


def values_of(
    module: Callable[..., object], inputs: ModelInputs, *, name: str, device: torch.device, autocast: Autocast
) -> Tensor:
    """Values [B, ...], on the device, in the dtype of autocast: all that the model returns, where that is one tensor,
    or its output of this name. Raises ModelError as `outputs_of`, and for a model without such an output."""
    outputs = outputs_of(module, inputs, device=device, autocast=autocast)
    values = outputs.get(ONLY, outputs.get(name))
    if values is None:
        found = ", ".join(f"{each} {list(value.shape)}" for each, value in outputs.items())
        raise ModelError(
            f"the model returned the outputs {found} for {len(inputs)} samples, expected one tensor or an output "
            f"`{name}`. Wrap it in a module that returns it."
        )
    return values_as_rows(values, name=name, num_samples=len(inputs)).known


def values_as_rows(output: Output, *, name: str, num_samples: int, counted: CountedRows | None = None) -> OutputRows:
    """Of values: as they are, one row a sample; one number a sample, [B], is a row of one, [B, 1]. But [B, L, ..] is
    rows where the modality itself counts positions, as samples then differ in L. Raises ModelError for an output
    without one row a sample."""
    if not isinstance(output, Tensor):
        raise ModelError(
            f"output {name}: is logits of {output.shape[-1]:,} classes, and no values. Store it as classes, with "
            f"`dump.output = {name}`, or take a layer's as `dump.output = {name}:values=layer:NAME`."
        )
    _check_samples(output, name=name, num_samples=_num_sequences(output, counted, num_samples))
    if output.ndim == 1:
        return OutputRows(rows=output[:, None])
    if counted is not None and output.ndim >= 3:
        return _positions_as_rows(output, counted)
    return OutputRows(rows=output)


def _joined_rows(outputs: Mapping[str, Output], names: Sequence[str], *, num_samples: int) -> OutputRows:
    wanted = [outputs.get(name) for name in names]
    held = [each for each in wanted if isinstance(each, Tensor) and each.ndim == 2 and len(each) == num_samples]
    if len(held) < len(names) or len({output.shape for output in held}) > 1:
        found = ", ".join(f"{name} {list(value.shape)}" for name, value in outputs.items())
        raise ModelError(
            f"the model returned the outputs {found} for {num_samples} samples, expected {' and '.join(names)}, each "
            f'[{num_samples}, classes]. Choose a model that gives them (of hf: with `arguments.task = "answers"`).'
        )
    return _positions_as_rows(torch.stack(held, dim=1), None)


def _positions_as_rows(output: Output, counted: CountedRows | None) -> OutputRows:
    num_samples, length = output.shape[:2]
    rows = output.flatten_rows() if isinstance(output, LazyLogits) else output.flatten(end_dim=1)
    if counted is not None:
        if counted.length is not None and length != counted.length:
            raise ModelError(
                f"an output has {length:,} positions for inputs of {counted.length:,} tokens or frames, so that "
                f"nothing tells which of them each is about. Give a model whose output has a position for each, or of "
                f"frames the `input.hop_ms` of the model's own."
            )
        numbers_R = counted.keys_R % max(length, 1) if counted.numbers_R is None else counted.numbers_R
        return OutputRows(rows=rows[counted.keys_R], counts_B=counted.rows_B, positions_R=numbers_R)
    positions_L = torch.arange(length, device=output.device)
    return OutputRows(
        rows=rows,
        counts_B=torch.full((num_samples,), length, device=output.device),
        positions_R=positions_L.repeat(num_samples),
    )


def _num_sequences(output: Output, counted: CountedRows | None, num_samples: int) -> int:
    """How long the first axis is to be."""
    shared = counted.num_sequences if counted is not None and output.ndim >= 3 else None
    return num_samples if shared is None else shared


def _check_samples(output: Output, *, name: str, num_samples: int) -> None:
    if output.ndim == 0 or len(output) != num_samples:
        raise ModelError(
            f"output {name}: has the shape {list(output.shape)} for {num_samples} samples, expected [{num_samples}, "
            f"...]: one row a sample. Name a layer whose output has the samples first."
        )

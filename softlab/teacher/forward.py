"""One forward pass of the teacher: from a batch of samples to what is kept of it, all on the teacher's device."""

# Shape letters: B rows in a batch, C classes, K entries kept (K <= C), T temperatures.

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from softlab.errors import ModelError
from softlab.labels.selection import keep_top_k
from softlab.labels.soft_labels import SoftLabels
from softlab.loading.batch import Batch
from softlab.modalities.modality import InputOptions
from softlab.models.device import choose_device, place
from softlab.models.forward import logits_of
from softlab.models.taps import FeatureTaps
from softlab.teacher.options import DumpOptions


@dataclass(frozen=True, kw_only=True, slots=True)
class Teacher:
    """A frozen model and what a manifest says about it."""

    module: nn.Module
    name: str
    """What it was built from, such as `torchvision:resnet50`."""

    arguments: Mapping[str, object]
    input: InputOptions
    """How it wants its samples."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TeacherOutput:
    """What is kept of the teacher's output for the B rows of a batch, on its way from the device to a shard."""

    labels: SoftLabels
    features: dict[str, Tensor]
    """float16 [B, ...]"""

    is_finite_B: Tensor
    """bool, whether all logits of the row are finite, and its features once they are float16."""

    def start_to_host(self) -> "OutputOnHost":
        """Begin the copies to the host without waiting for the device."""
        return OutputOnHost(self)


class OutputOnHost:
    """Copies under way; `wait` returns them when they have arrived. May be waited for in another thread."""

    def __init__(self, output: TeacherOutput) -> None:
        self._output = TeacherOutput(
            labels=_to_host_labels(output.labels),
            features={name: _to_host(feature) for name, feature in output.features.items()},
            is_finite_B=_to_host(output.is_finite_B),
        )
        self._arrived: torch.cuda.Event | None = None
        if output.is_finite_B.is_cuda:
            # On the tensors' own device: with several GPUs the current one may be another. Blocking: no spinning core.
            self._arrived = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
            self._arrived.record(torch.cuda.current_stream(output.is_finite_B.device))

    def wait(self) -> TeacherOutput:
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._output


class TeacherRun:
    """The teacher on its device, in inference mode; a context manager that holds its feature taps."""

    def __init__(self, teacher: Teacher, options: DumpOptions) -> None:
        self.device = choose_device(options.device)
        self._options = options
        module = place(teacher.module.eval(), self.device, channels_last=options.channels_last)
        self._taps = FeatureTaps(module, options.taps)
        self._module: Callable[..., object] = torch.compile(module) if options.compile else module

    def __enter__(self) -> "TeacherRun":
        self._taps.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._taps.__exit__(None, None, None)

    @torch.inference_mode()
    def logits(self, batch: Batch) -> Tensor:
        """float32 [B, C] on the device. Raises ModelError if the model's output is not that of a classifier."""
        (collated,) = batch.to(self.device, channels_last=self._options.channels_last).inputs
        return logits_of(self._module, collated.inputs, device=self.device, autocast=self._options.autocast).float()

    def features(self) -> dict[str, Tensor]:
        """float16 [B, ...] by name, of the last forward pass, on the device."""
        return {name: feature.half() for name, feature in self._taps.collect().items()}

    @torch.inference_mode()
    def run(self, batch: Batch, *, k: int) -> TeacherOutput:
        """What is kept of a batch; on the device, nothing waited for."""
        return self.keep(self.logits(batch), k=k)

    @torch.inference_mode()
    def keep(self, logits_BC: Tensor, *, k: int) -> TeacherOutput:
        """The k largest logits of each row, their exact tails, and the features of the same forward pass."""
        features = self.features()
        _check_rows(features, num_rows=len(logits_BC))
        labels = keep_top_k(logits_BC, k=k, temperatures=self._options.temperature, head=self._options.head)
        # NaN counts as the largest, and as the smallest too: two numbers a row tell, one of which is there already.
        is_finite_B = labels.max_logit_B.isfinite() & logits_BC.amin(dim=1).isfinite()
        for feature in features.values():
            is_finite_B &= feature.isfinite().flatten(start_dim=1).all(dim=1)
        return TeacherOutput(labels=labels, features=features, is_finite_B=is_finite_B)


def _check_rows(features: Mapping[str, Tensor], *, num_rows: int) -> None:
    """Raises ModelError for a feature that doesn't have one row a sample."""
    for name, feature in features.items():
        if feature.ndim < 2 or len(feature) != num_rows:
            raise ModelError(
                f"feature {name}: its layer gives {list(feature.shape)} for {num_rows} samples, expected "
                f"[{num_rows}, ...]. Name a layer whose output has the samples first."
            )


def _to_host_labels(labels: SoftLabels) -> SoftLabels:
    return SoftLabels(
        class_ids_BK=_to_host(labels.class_ids_BK),
        logits_BK=_to_host(labels.logits_BK),
        log_tail_BT=_to_host(labels.log_tail_BT),
        max_logit_B=_to_host(labels.max_logit_B),
        temperatures=labels.temperatures,
        num_classes=labels.num_classes,
        head=labels.head,
    )


def _to_host(tensor: Tensor) -> Tensor:
    """Into pinned memory where the device is CUDA, because only such a copy doesn't wait."""
    if not tensor.is_cuda:
        return tensor.cpu()
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor, non_blocking=True)

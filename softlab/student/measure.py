"""Measure one model on its own, outside of training."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from softlab.errors import InvalidOption
from softlab.loading.alignment import VerifyInputs, align
from softlab.loading.batches import Aligned, Batch, BatchLoader, LoaderOptions
from softlab.models.device import choose_device, place
from softlab.models.forward import logits_of
from softlab.sources.source import Source
from softlab.store.reader import Store
from softlab.student.evaluate import BATCH_SIZE, Evaluation, evaluate
from softlab.views.finishing import Finishing


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateOptions:
    """How a model is measured."""

    batch_size: int = BATCH_SIZE
    """Images in one forward pass."""

    subset: bool = False
    """Accept a source that holds only some of the store's samples; they are found by key."""

    verify_inputs: VerifyInputs = "some"
    """Which samples must have the content hash that the store records: some at random, or all."""

    workers: int | None = None
    """Processes that decode images; default: 0 beside a CPU model, else up to 8."""

    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""

    autocast: Literal["none", "bfloat16"] = "none"
    """Shorter dtype of the forward pass."""

    channels_last: bool = False
    """Run convolutions in channels-last memory order."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise InvalidOption(f"batch_size = {self.batch_size}: expected 1 or more. Change --batch-size.")


def evaluate_model(
    module: nn.Module,
    source: Source,
    *,
    store: Store | None = None,
    finishing: Finishing | None = None,
    options: EvaluateOptions | None = None,
) -> Evaluation:
    """Accuracy on a source, and with a store of the same samples agreement with its teacher and KL to it.

    Raises StoreMismatch if the store was made from other samples or over other classes.
    """
    options = options or EvaluateOptions()
    device = choose_device(options.device)
    numbers_N = None
    if store is not None:
        numbers_N = align(source, store, subset=options.subset, verify=options.verify_inputs)
    aligned = Aligned(source=source, finishing=finishing or Finishing(), store=store, store_numbers_N=numbers_N)
    loader = BatchLoader(aligned, device=device, options=LoaderOptions(workers=options.workers))
    module = place(module.eval(), device, channels_last=options.channels_last)

    def forward(batch: Batch) -> Tensor:
        return logits_of(module, batch.images_BCHW, device=device, autocast=options.autocast)

    return evaluate({"model": forward}, loader, batch_size=options.batch_size, channels_last=options.channels_last)[
        "model"
    ]

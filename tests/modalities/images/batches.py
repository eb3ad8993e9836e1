"""Images as the input of a model, and back."""

# Shape letters: B images in a batch, C channels, H height, W width.

from torch import Tensor

from softlab.loading.batch import Batch
from softlab.modalities.inputs import Collated, Inputs


def collated(images_BCHW: Tensor) -> Collated:
    return Collated(inputs=Inputs(positional=(images_BCHW,)))


def images_in(batch: Batch, *, input_index: int = 0) -> Tensor:
    """float32 [B, C, H, W]."""
    (images_BCHW,) = batch.inputs[input_index].inputs.positional
    return images_BCHW

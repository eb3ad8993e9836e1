"""A small model with two towers: convolutions for images, a bag of words for texts.

`vocab_size` and `pad_id` are told by the input that it is built for.
"""

# Shape letters: B pairs in a batch, D numbers of a vector, L tokens of the longest text.

import torch
from torch import Tensor, nn

from softlab.modalities.text.models import text_bag

__all__ = ["pairs_towers"]


def pairs_towers(*, vocab_size: int, size: int = 64, width: int = 32, channels: int = 3, pad_id: int = 0) -> nn.Module:
    """Gives `pair` [B, 2, size]: the vector of the image, then that of its text. Convolutions begin with `width`
    channels; the embeddings of tokens have twice as many numbers."""
    text = text_bag(vocab_size=vocab_size, num_classes=size, width=2 * width, pad_id=pad_id)
    return TwoTowers(image=_image_tower(channels=channels, width=width, size=size), text=text)


class TwoTowers(nn.Module):
    """One tower for each half."""

    def __init__(self, *, image: nn.Module, text: nn.Module) -> None:
        super().__init__()
        self.image, self.text = image, text

    def forward(self, image: Tensor, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        return {"pair": torch.stack([self.image(image), self.text(input_ids, attention_mask)], dim=1)}


def _image_tower(*, channels: int, width: int, size: int) -> nn.Module:
    layers = nn.Sequential()
    for number, (inputs, outputs) in enumerate([(channels, width), (width, 2 * width), (2 * width, 4 * width)], 1):
        layers.add_module(f"conv{number}", nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False))
        layers.add_module(f"norm{number}", nn.BatchNorm2d(outputs))
        layers.add_module(f"relu{number}", nn.ReLU())
    layers.add_module("pool", nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    layers.add_module("head", nn.Linear(4 * width, size))
    return layers

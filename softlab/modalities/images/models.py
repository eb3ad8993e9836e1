"""Small reference models for 28x28 grey images, so that the demo and the tests need no download.

`grey_resnet` is the demo's teacher, `grey_cnn` and `grey_mlp` are its students.
"""

# Shape letters: B rows in a batch, C classes, W channels.

from torch import Tensor, nn

__all__ = ["grey_cnn", "grey_heads", "grey_mlp", "grey_resnet"]


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside an identity (He et al. 2016, pre-activation form)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.layers(x)
        return x + change


def grey_resnet(*, num_classes: int = 10, width: int = 32) -> nn.Module:
    """A residual network, 0.46 M parameters at width 32; its layer `pool` is [B, 4 * width]."""
    layers = nn.Sequential()
    layers.add_module("stem", nn.Conv2d(1, width, 3, padding=1, bias=False))
    layers.add_module("down1", _halve(width, 2 * width))
    layers.add_module("stage1", ResidualBlock(2 * width))
    layers.add_module("down2", _halve(2 * width, 4 * width))
    layers.add_module("stage2", ResidualBlock(4 * width))
    layers.add_module("norm", nn.Sequential(nn.BatchNorm2d(4 * width), nn.ReLU()))
    layers.add_module("pool", _global_pool())
    layers.add_module("classifier", nn.Linear(4 * width, num_classes))
    return layers


def grey_cnn(*, num_classes: int = 10, width: int = 16) -> nn.Module:
    """Three strided convolutions, 24 k parameters at width 16; its layer `pool` is [B, 4 * width]."""
    layers = nn.Sequential()
    for number, (inputs, outputs) in enumerate([(1, width), (width, 2 * width), (2 * width, 4 * width)], start=1):
        layers.add_module(f"conv{number}", nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False))
        layers.add_module(f"norm{number}", nn.BatchNorm2d(outputs))
        layers.add_module(f"relu{number}", nn.ReLU())
    layers.add_module("pool", _global_pool())
    layers.add_module("classifier", nn.Linear(4 * width, num_classes))
    return layers


class GreyHeads(nn.Module):
    """A `grey_cnn` with a linear layer for each head in place of its classifier."""

    def __init__(self, heads: dict[str, int], *, width: int) -> None:
        super().__init__()
        self.trunk = grey_cnn(width=width)
        self.trunk.classifier = nn.Identity()
        self.heads = nn.ModuleDict({name: nn.Linear(4 * width, size) for name, size in heads.items()})

    def forward(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        hidden_BD = self.trunk(images_BCHW)
        return {name: head(hidden_BD) for name, head in self.heads.items()}


def grey_heads(*, heads: dict[str, int], width: int = 16) -> nn.Module:
    """A `grey_cnn` that returns several outputs by name; `heads` tells how many numbers each has."""
    return GreyHeads(heads, width=width)


def grey_mlp(*, num_classes: int = 10, width: int = 32) -> nn.Module:
    """784-width-width-classes, 27 k parameters at width 32 (the small net of Hinton et al. 2015, section 3, shrunk)."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(28 * 28, width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, num_classes),
    )


def _halve(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.BatchNorm2d(inputs), nn.ReLU(), nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
    )


def _global_pool() -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())

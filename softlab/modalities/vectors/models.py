"""Small students for vectors: an MLP for rows of a table, a 1-d convolutional net for windows of sensors.

`num_inputs` and `num_channels` are told by the input that they are built for.
"""

# Shape letters: B samples in a batch, C channels, L steps of a window, D numbers of a sample.

from torch import Tensor, nn

__all__ = ["vectors_conv", "vectors_mlp"]


def vectors_mlp(
    *, num_inputs: int, num_classes: int = 2, width: int = 64, num_layers: int = 2, dropout: float = 0.0
) -> nn.Module:
    """Layers of one width with ReLU, of vectors or windows; its layer `hidden` is [B, width]."""
    hidden = nn.Sequential()
    for number in range(num_layers):
        hidden.append(nn.Linear(num_inputs if number == 0 else width, width))
        hidden.append(nn.ReLU())
        hidden.append(nn.Dropout(dropout))
    layers = nn.Sequential()
    layers.add_module("flatten", nn.Flatten())
    layers.add_module("hidden", hidden)
    layers.add_module("classifier", nn.Linear(width if num_layers else num_inputs, num_classes))
    return layers


def vectors_conv(
    *, num_channels: int, num_classes: int = 2, width: int = 32, num_layers: int = 3, kernel_size: int = 5
) -> nn.Module:
    """Convolutions over the steps of a window, each but the first of half as many steps; its layer `pool` is
    [B, width], the mean over steps. A flat vector is one channel."""
    layers = nn.Sequential()
    layers.add_module("channels", AsChannels())
    for number in range(num_layers):
        inputs, stride = (num_channels, 1) if number == 0 else (width, 2)
        conv = nn.Conv1d(inputs, width, kernel_size, stride=stride, padding=kernel_size // 2, bias=False)
        layers.add_module(f"conv{number + 1}", conv)
        layers.add_module(f"norm{number + 1}", nn.BatchNorm1d(width))
        layers.add_module(f"relu{number + 1}", nn.ReLU())
    layers.add_module("pool", nn.Sequential(nn.AdaptiveAvgPool1d(1), nn.Flatten()))
    layers.add_module("classifier", nn.Linear(width, num_classes))
    return layers


class AsChannels(nn.Module):
    """[B, C, L] as it is; of [B, D] one channel."""

    def forward(self, samples: Tensor) -> Tensor:
        return samples.unsqueeze(1) if samples.ndim == 2 else samples

"""A teacher with several outputs, some with a row for each position of a sample."""

# Shape letters: B samples, L positions, C classes, D numbers of a vector.

import torch
from torch import Tensor, nn

POSITIONS = 6


class Several(nn.Module):
    """Classes and values, of each position and of the whole image."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.tokens, self.page = nn.Linear(4, 5), nn.Linear(4 * POSITIONS, 10)

    def forward(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        states_BLD = images_BCHW[:, :, :24].reshape(len(images_BCHW), POSITIONS, 4, -1).mean(dim=-1)
        flat_BD = states_BLD.flatten(1)
        return {
            "tokens": self.tokens(states_BLD),
            "page": self.page(flat_BD),
            "states": states_BLD,
            "pooled": flat_BD,
        }


def several() -> nn.Module:
    return Several()

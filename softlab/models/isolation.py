"""Does a sample that shares a sequence with others see itself alone? Many models leave `position_ids` aside, or look at
them only without a mask or a cache, and then mix samples without an error."""

# Shape letters: B sequences in a batch, L tokens of the longest one, D width of the states.

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from softlab.errors import ModelError

ISOLATED, ISOLATED_IN_HALF = 5e-3, 5e-2
"""By which the states of a sample may differ from those that it has alone, relative to the largest. Where samples see
each other, those of a small Llama differ by 1.5, and with weights a tenth as large, which look at hardly anything, by
.058."""


@torch.no_grad()
def check_isolation(
    states_of: Callable[[Tensor, Tensor], Tensor], ids_BL: Tensor, positions_BL: Tensor, *, name: str
) -> bool:
    """Compares a sample behind another one with itself alone. `states_of` gives [B, L, D] of ids and positions. False
    where no sample stands behind another one; raises ModelError where they see each other."""
    found = _second_sample(positions_BL)
    if found is None:
        return False
    row, own = found
    # In two sequences where the batch has several: some kernels tell samples apart only where there is one.
    rows = [row] * min(len(ids_BL), 2)
    both, alone = (states_of(ids_BL[rows, part], positions_BL[rows, part]) for part in (slice(own.stop), own))
    is_half = alone.dtype in (torch.bfloat16, torch.float16) or torch.is_autocast_enabled(alone.device.type)
    differs = ((both[:, own].float() - alone.float()).abs().max() / alone.float().abs().max()).item()
    if not differs <= (ISOLATED_IN_HALF if is_half else ISOLATED):
        raise ModelError(
            f"{name}: samples that share a sequence see each other: the states of one differ by {differs:.2g} of the "
            f"largest from those that it has alone. Leave `input.pack` out, or take another "
            f"`arguments.attn_implementation`."
        )
    return True


@contextmanager
def nothing_random(module: nn.Module) -> Iterator[None]:
    """Without dropout; each part is then again in the mode that it had."""
    modes = [(each, each.training) for each in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for each, mode in modes:
            each.training = mode


def _second_sample(positions_BL: Tensor) -> tuple[int, slice] | None:
    """In which sequence a sample of two tokens or more stands behind another one, and where; None where none does. What
    fills up has position 0 throughout."""
    begins_BL = (positions_BL[:, :-1] == 0) & (positions_BL[:, 1:] == 1)
    begins_BL[:, :1] = False
    places = begins_BL.nonzero()
    if not len(places):
        return None
    row, start = places[0].tolist()
    behind = (positions_BL[row, start + 1 :] == 0).nonzero()[:, 0]
    return row, slice(start, start + 1 + int(behind[0]) if len(behind) else positions_BL.shape[1])

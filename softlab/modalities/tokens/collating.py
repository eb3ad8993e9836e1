"""What is read of some samples as one input of a model, filled up on the right."""

# Shape letters: B samples in a batch, P sequences (B, or fewer where samples share one), L tokens of the longest one.

from collections.abc import Sequence

import numpy as np
import torch

from softlab.manifest import TokensRecord
from softlab.modalities.inputs import Collated, Inputs
from softlab.modalities.tokens.packing import one_a_sequence, pack
from softlab.modalities.tokens.shift import ReadTokens, token_units


def collate_tokens(
    read: Sequence[ReadTokens], *, pad_id: int, max_length: int | None, are_beginnings: bool
) -> Collated:
    """`input_ids` and `attention_mask` [B, L], and the rows of `shift`. With a `max_length` samples share sequences of
    so many tokens: `input_ids` and `position_ids` [P, L], and no mask. The ids alone tell what was read where these
    `are_beginnings` of samples: of others it isn't known which tokens stand side by side."""
    lengths = [len(each) for each in read]
    places = one_a_sequence(lengths) if max_length is None else pack(lengths, max_length=max_length)
    num_sequences = 1 + max(place.sequence for place in places)
    length = max(place.start + own for place, own in zip(places, lengths, strict=True))
    ids_PL = torch.full((num_sequences, length), pad_id)
    mask_PL, positions_PL = torch.zeros_like(ids_PL), torch.zeros_like(ids_PL)
    for each, place in zip(read, places, strict=True):
        there = (place.sequence, slice(place.start, place.start + len(each)))
        ids_PL[there] = torch.from_numpy(each.ids_T)
        mask_PL[there], positions_PL[there] = 1, torch.arange(len(each))
    beside = {"attention_mask": mask_PL} if max_length is None else {"position_ids": positions_PL}
    cut = [each.total - len(each) for each in read]
    return Collated(
        inputs=Inputs(named={"input_ids": ids_PL, **beside}, num_samples=len(read)),
        units=token_units(
            read,
            starts=[place.sequence * length + place.start for place in places],
            num_sequences=num_sequences,
            length=length,
        ),
        cut_off=sum(map(bool, cut)),
        tokens=TokensRecord(read=sum(lengths), cut_off=sum(cut)),
        token_ids_E=torch.from_numpy(np.concatenate([each.ids_T for each in read])) if are_beginnings else None,
        token_counts_B=torch.tensor(lengths) if are_beginnings else None,
    )

"""Samples that are there twice, told by their content: in one data set, or in the two that train and measure."""

# Shape letters: N samples of the source, V of those that are measured on.

import warnings

import numpy as np
from numpy.typing import NDArray

from softlab.errors import OddSource
from softlab.identity import ContentHashes
from softlab.keys import Keys
from softlab.sources.source import Source, hard_targets
from softlab.store.reader import Store

LOOKED_AT = 256
"""Samples of a data set to measure on, spread evenly, that are read where no store has their hashes."""


COMPARED = 1 << 22
"""Samples among which those that are there twice are looked for, where there are very many."""


def warn_of_content(note: str) -> None:
    """With OddSource, where there is something to tell."""
    if note:
        warnings.warn(note, OddSource, stacklevel=3)


def duplicates_note(source: Source, store: Store) -> str:
    """What is there twice in the source of a store; empty where nothing is."""
    hashes_N, places_N = _compared(store)
    order = np.argsort(hashes_N, kind="stable")
    is_again = hashes_N[order][1:] == hashes_N[order][:-1]
    if not is_again.any():
        return ""
    again, before = places_N[order[1:][is_again]], places_N[order[:-1][is_again]]
    pairs = list(zip(before.tolist(), again.tolist(), strict=True))
    targets_N = hard_targets(source)
    contradicting = [] if targets_N is None else [pair for pair in pairs if targets_N[pair[0]] != targets_N[pair[1]]]
    were_looked_at = " that were looked at" if len(places_N) < len(source) else ""
    looked_at = f"{len(places_N):,} samples{were_looked_at}"
    first, second = (contradicting or pairs)[0]
    told = f", {len(contradicting):,} of them with another label" if contradicting else ""
    return (
        f"{source.name}: {len(pairs):,} of {looked_at} have the content of another one{told}, such as "
        f"{source.keys[second]!r} and {source.keys[first]!r}. Take them out of the data, or go on if this is meant"
    )


def _compared(store: Store) -> tuple[NDArray[np.bytes_], NDArray[np.int64]]:
    """Content hashes among which those of one content are all there, and the indices that they are of: of very many
    samples those whose hash begins with a small number, which are a random part of the contents."""
    share = min(COMPARED / max(store.num_samples, 1), 1) if store.has_large_table else 1
    hashes, places, start = [], [], 0
    for hashes_S16 in store.read_content_hashes():
        is_compared = hashes_S16[:, :4].copy().view(">u4")[:, 0] < share * (1 << 32)
        hashes.append(hashes_S16[is_compared])
        places.append(start + np.flatnonzero(is_compared))
        start += len(hashes_S16)
    return _as_one_value(np.concatenate(hashes)), np.concatenate(places)


def overlap_note(valid: Source, valid_store: Store | None, source: Source, store: Store | None) -> str:
    """Which samples are trained on and measured on; empty where none is found. Contents are compared: a store tells
    those of its samples, else some are read. Without a store of the source only equal keys are looked at."""
    if store is None:
        found, looked_at = _same_by_key(valid, source)
    else:
        hashes_V, looked_at = _hashes_of(valid, valid_store)
        parts = store.read_content_hashes()
        known = np.any([np.isin(hashes_V, _as_one_value(hashes_N16)) for hashes_N16 in parts], axis=0)
        found = looked_at[known]
    if not len(found):
        return ""
    return (
        f"{valid.name}: {len(found):,} of {len(looked_at):,} samples that were looked at are also in {source.name}, "
        f"which is trained on, such as {valid.keys[int(found[0])]!r}: what is measured on them says nothing of new "
        f"data. Take them out of one of both"
    )


def _hashes_of(valid: Source, store: Store | None) -> tuple[NDArray[np.bytes_], NDArray[np.int64]]:
    """Content hashes, and the indices that they are of."""
    if store is not None and store.num_samples == len(valid) and not store.has_large_table:
        return _as_one_value(ContentHashes(store.read_samples().content_hashes).bytes_N16), np.arange(len(valid))
    looked_at = np.linspace(0, len(valid) - 1, min(len(valid), LOOKED_AT)).astype(np.int64)
    joined = b"".join(valid.read(index).content_hash for index in looked_at.tolist())
    return _as_one_value(np.frombuffer(joined, dtype=np.uint8).reshape(-1, 16)), looked_at


def _same_by_key(valid: Source, source: Source) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of the samples with keys that both have."""
    places_V = Keys(source.keys).find(Keys(valid.keys))
    candidates = np.flatnonzero(places_V >= 0)[:LOOKED_AT]
    same = [
        index
        for index in candidates.tolist()
        if valid.read(index).content_hash == source.read(int(places_V[index])).content_hash
    ]
    return np.array(same, dtype=np.int64), candidates


def _as_one_value(hashes_N16: NDArray[np.uint8]) -> NDArray[np.bytes_]:
    """As texts, which numpy can sort."""
    return np.ascontiguousarray(hashes_N16).view("S16").reshape(-1)

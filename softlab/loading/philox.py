"""Random numbers that are a function of what they are for: Philox4x64-10 (Salmon, Moraes, Dror and Shaw, "Parallel
random numbers: as easy as 1, 2, 3", 2011), as numpy has it, and any of its numbers without those before it."""

# Shape letters: B runs of numbers, N blocks of four that one may touch, C numbers of one, M blocks in all.

import numpy as np
from numpy.typing import NDArray

ROUNDS = 10
MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
STEPS = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
"""By which the key goes on after each round."""

WORDS = 4
"""That come out at a time."""

OTHER_BITS = 11
"""Of a word, which numpy leaves out of a float."""

LOW, HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
Words = NDArray[np.uint64]


def generator_of(key: tuple[int, int], *, stream: int, part: int = 0) -> np.random.Generator:
    """All numbers of one purpose. Those of other streams, or other parts of one, are others: each begins elsewhere in
    what a key gives."""
    counter = np.array([0, 0, part, stream], dtype=np.uint64)
    words = np.array(key, dtype=np.uint64)  # from a list numpy would round seeds above 2^63
    return np.random.Generator(np.random.Philox(key=words, counter=counter))


def runs_at(first_B: NDArray[np.int64], *, count: int, key: tuple[int, int], stream: int) -> Words:
    """Of `generator_of(key, stream=stream).random(..)` so many numbers in a row from each of these places on: the 53
    random bits that each is made of, uint64 [B, count]."""
    block_B, word_B = np.divmod(first_B.astype(np.uint64), np.uint64(WORDS))
    num_blocks = int(word_B.max(initial=0) + count - 1) // WORDS + 1
    counter_BN = block_B[:, None] + np.arange(1, num_blocks + 1, dtype=np.uint64)  # numpy counts on before it takes one
    words_BN4 = np.stack(_block(counter_BN, key=key, stream=stream), axis=2)
    places_BC = word_B.astype(np.int64)[:, None] + np.arange(count)
    words_BW = words_BN4.reshape(len(first_B), WORDS * num_blocks)
    return np.take_along_axis(words_BW, places_BC, axis=1) >> np.uint64(OTHER_BITS)


def _block(counter_M: Words, *, key: tuple[int, int], stream: int) -> tuple[Words, Words, Words, Words]:
    zeros_M = np.zeros_like(counter_M)
    x0, x1, x2, x3 = counter_M, zeros_M, zeros_M, np.full_like(counter_M, stream)
    for number in range(ROUNDS):
        key0, key1 = (np.uint64((word + number * step) % (1 << 64)) for word, step in zip(key, STEPS, strict=True))
        high0, low0 = _product(x0, MULTIPLIERS[0])
        high1, low1 = _product(x2, MULTIPLIERS[1])
        x0, x1, x2, x3 = high1 ^ x1 ^ key0, low1, high0 ^ x3 ^ key1, low0
    return x0, x1, x2, x3


def _product(words_M: Words, factor: int) -> tuple[Words, Words]:
    """All 128 bits of it, high and low ones."""
    factor_high, factor_low = np.uint64(factor >> 32), np.uint64(factor) & LOW
    high_M, low_M = words_M >> HALF, words_M & LOW
    middle_M = high_M * factor_low + (low_M * factor_low >> HALF)
    carry_M = low_M * factor_high + (middle_M & LOW)
    return high_M * factor_high + (middle_M >> HALF) + (carry_M >> HALF), words_M * np.uint64(factor)

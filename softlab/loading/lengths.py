"""How long the samples of a source are, for batches of samples of similar length."""

# Shape letters: N samples.

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softlab.errors import InvalidOption
from softlab.loading.aligned import Aligned
from softlab.modalities.modality import InputOptions, decode_sample, modality_of
from softlab.sources.source import read_samples

SAMPLES_AT_A_TIME = 256

LengthOf = Callable[[Any, InputOptions], int]


def lengths_of(aligned: Aligned, *, count: int) -> NDArray[np.int64]:
    """The length of each of the first `count` samples, summed over the inputs of a run: one pass over the source, that
    decodes what has a length. No tokenizer is asked, so that a length doesn't change with it.

    Raises InvalidOption where samples have no length, UnreadableSample for one that can't be read.
    """
    measures = _measures(aligned)
    modalities = [each for each in aligned.modalities if each.name in measures]
    lengths_N = np.zeros(count, dtype=np.int64)
    for start in range(0, count, SAMPLES_AT_A_TIME):
        samples = read_samples(aligned.source, range(start, min(start + SAMPLES_AT_A_TIME, count)))
        for place, sample in enumerate(samples, start=start):
            examples = {each.name: decode_sample(sample, each) for each in modalities}
            lengths_N[place] = sum(
                measures[options.modality](examples[options.modality], options)
                for options in aligned.inputs
                if options.modality in measures
            )
    return lengths_N


def _measures(aligned: Aligned) -> Mapping[str, LengthOf]:
    """By the modality's name. A modality whose samples have no length has no `length`."""
    found = {
        name: getattr(modality_of(options), "length", None) for options in aligned.inputs for name in [options.modality]
    }
    measures = {name: length for name, length in found.items() if length is not None}
    if not measures:
        raise InvalidOption(
            f"run.batch_by_length: samples of the modality {', '.join(sorted(found))} have no length. Leave it out."
        )
    return measures

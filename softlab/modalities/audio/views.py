"""Views of clips: cut, louder or quieter, noisy, or silent for a while, at the file's own sample rate."""

# Shape letters: T samples of a waveform.

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from types import MappingProxyType
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from softlab.errors import check_option
from softlab.manifest import MixingRecord, TransformRecord
from softlab.modalities.audio.decode import Clip
from softlab.modalities.views import ArgumentChecks, check_seed, draw, number_in

MOST_DB = 120.0

Samples = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class AudioViews:
    """How clips are augmented, before they are resampled for any model.

        augment = softlab.AudioViews(crop=0.2, gain=6)

    View v of sample n is a pure function of it, v and n, so a teacher and all its students hear the same.
    """

    modality: ClassVar[str] = "audio"

    crop: float = 0.0
    """Share of a clip that is cut off: what is left is one stretch at a random place, in all views of one length, so
    that they have as many frames."""

    gain: float = 0.0
    """Decibels by which a clip becomes louder or quieter at most."""

    noise: float | None = None
    """White noise that is added: so many decibels below the clip's largest sample. Default: none."""

    mask: float = 0.0
    """Share of a clip that is silenced at most, in one stretch at a random place."""

    seed: int = 0
    """Of everything that is drawn."""

    def __post_init__(self) -> None:
        check_option(0 <= self.crop < 1, "augment.crop", self.crop, "0 to below 1")
        check_option(0 <= self.mask < 1, "augment.mask", self.mask, "0 to below 1")
        check_option(0 <= self.gain <= MOST_DB, "augment.gain", self.gain, f"0 to {MOST_DB:g} dB")
        is_right = self.noise is None or -MOST_DB <= self.noise <= MOST_DB
        check_option(is_right, "augment.noise", self.noise, f"{-MOST_DB:g} to {MOST_DB:g} dB")
        check_seed(self.seed)

    @property
    def is_random(self) -> bool:
        """Whether views differ at all."""
        return bool(self.parse())

    def parse(self) -> tuple[TransformRecord, ...]:
        """The transforms with all of their arguments, in their order: a mask stays silent."""
        return (
            *((TransformRecord(name="CutClip", arguments={"share": self.crop}),) if self.crop else ()),
            *((TransformRecord(name="Gain", arguments={"db": self.gain}),) if self.gain else ()),
            *((TransformRecord(name="Noise", arguments={"db": self.noise}),) if self.noise is not None else ()),
            *((TransformRecord(name="MaskTime", arguments={"share": self.mask}),) if self.mask else ()),
        )

    def parse_mixing(self) -> MixingRecord | None:
        """Clips aren't mixed."""
        return None


def change_clip(clip: Clip, transforms: tuple[TransformRecord, ...], seed: int, view: int, recipe_index: int) -> Clip:
    key = draw(seed, view, recipe_index, purpose=b"sound")
    random = np.random.RandomState(np.random.Philox(key=key))  # whose streams numpy has promised never to change
    samples_T = clip.samples_T.numpy()
    for record in transforms:
        (value,) = record.arguments.values()
        samples_T = CHANGES[record.name](samples_T, random, value)
    return Clip(torch.from_numpy(samples_T), clip.rate)


def _cut(samples_T: Samples, random: np.random.RandomState, share: float) -> Samples:
    start, stop = _stretch(len(samples_T), random, 1 - share)
    return samples_T[start:stop]


def _gain(samples_T: Samples, random: np.random.RandomState, db: float) -> Samples:
    louder_T: Samples = samples_T * _factor(db * (2 * random.random_sample() - 1))
    return louder_T


def _noise(samples_T: Samples, random: np.random.RandomState, db: float) -> Samples:
    """As loud as its largest sample says, since that is the same however it is computed; none in a silent clip."""
    drawn_T = (2 * random.random_sample(len(samples_T)) - 1).astype(np.float32)
    loudest: np.float32 = np.abs(samples_T).max() * _factor(-db)
    return samples_T + drawn_T * loudest


def _mask(samples_T: Samples, random: np.random.RandomState, share: float) -> Samples:
    start, stop = _stretch(len(samples_T), random, share * random.random_sample())
    masked_T = samples_T.copy()
    masked_T[start:stop] = 0
    return masked_T


CHANGES: Mapping[str, Callable[[Samples, np.random.RandomState, float], Samples]] = MappingProxyType(
    {"CutClip": _cut, "Gain": _gain, "Noise": _noise, "MaskTime": _mask}
)

SHARE = number_in(0, 1)
ARGUMENTS: Mapping[str, ArgumentChecks] = MappingProxyType(
    {
        "CutClip": {"share": SHARE},
        "Gain": {"db": number_in(0, MOST_DB)},
        "Noise": {"db": number_in(-MOST_DB, MOST_DB)},
        "MaskTime": {"share": SHARE},
    }
)


def _stretch(length: int, random: np.random.RandomState, share: float) -> tuple[int, int]:
    """From where, and up to where: so much of a clip, rounded up, at a random place."""
    count = ceil(length * share)
    start = int((length - count + 1) * random.random_sample())
    return start, start + count


def _factor(db: float) -> np.float32:
    return np.float32(10 ** (db / 20))

"""Sound files as waveforms: several channels become their mean, and the sample rate stays the file's own."""

# Shape letters: T samples of a waveform, C channels.

from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from softlab.errors import extra_needed
from softlab.sources.source import Raw

MAX_VALUES = 1 << 27
"""Of all channels of a file: 512 MiB once decoded, 23 minutes in stereo at 48 kHz."""

LOWEST_RATE, HIGHEST_RATE = 1_000, 768_000
"""Samples a second."""

UNKNOWN_BYTES = (0, 0xFFFFFFFF)
"""What stands in place of its length in a file that was written as a stream."""


Channels = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """The sound of one sample."""

    samples_T: Tensor
    """float32, within -1..1 as files with whole numbers have it."""

    rate: int
    """Samples a second."""

    @property
    def is_silent(self) -> bool:
        return not bool(self.samples_T.any())


def decode_clip(raw: Raw) -> Clip:
    """Raises ValueError or TypeError for what isn't a sound file, and for one that is cut off, empty, too long, or that
    holds NaN or infinite samples."""
    return as_clip(*read_channels(raw))


def as_clip(samples_TC: Channels, rate: int) -> Clip:
    return Clip(torch.from_numpy(np.ascontiguousarray(samples_TC.mean(axis=1))), rate)


def read_channels(raw: Raw) -> tuple[Channels, int]:
    """All channels [T, C] and the sample rate. Raises as `decode_clip`."""
    if not isinstance(raw, bytes):
        raise TypeError("it isn't the bytes of a sound file")
    with extra_needed("audio", "audio needs soundfile"):
        import soundfile
    try:
        with soundfile.SoundFile(BytesIO(raw)) as file:
            _check_header(file)
            samples_TC, rate, told = file.read(dtype="float32", always_2d=True), file.samplerate, file.frames
    except soundfile.LibsndfileError as error:  # its own text holds the address of a buffer
        raise ValueError("not a sound file that libsndfile can read, or a damaged one") from error
    if len(samples_TC) < told or is_cut_off(raw):
        raise ValueError("the file ends before its sound does")
    if not len(samples_TC):
        raise ValueError("it holds no samples")
    if not np.isfinite(samples_TC).all():
        raise ValueError("some of its samples are NaN or infinite")
    return samples_TC, rate


def resample(clip: Clip, rate: int) -> Tensor:
    """float32 [T], at another sample rate."""
    if clip.rate == rate:
        return clip.samples_T
    with extra_needed("audio", "audio of other rates needs soxr"):
        import soxr
    return torch.from_numpy(soxr.resample(clip.samples_T.numpy(), clip.rate, rate))


def _check_header(file: Any) -> None:
    """Before anything is allocated."""
    if file.frames * file.channels > MAX_VALUES:
        raise ValueError(
            f"{file.frames:,} samples of {file.channels:,} channels are more than {MAX_VALUES:,} values (cut it into "
            f"clips)"
        )
    if not LOWEST_RATE <= file.samplerate <= HIGHEST_RATE:
        raise ValueError(f"a sample rate of {file.samplerate:,} Hz isn't in {LOWEST_RATE:,}..{HIGHEST_RATE:,}")


def is_cut_off(raw: bytes) -> bool:
    """Whether a wav or aiff file tells of more bytes than it has: libsndfile reads what is there, and says nothing."""
    if raw[:4] not in (b"RIFF", b"FORM"):
        return False
    told = int.from_bytes(raw[4:8], "little" if raw[:4] == b"RIFF" else "big")
    return told not in UNKNOWN_BYTES and told + 8 > len(raw) + 1  # a last byte of padding may be left out

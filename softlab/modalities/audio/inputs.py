"""How a model wants its clips: sample rate, length, and a waveform or the log-mel spectrogram of it.

Frames are the units of a clip: frame k is centred k hops behind its beginning, at any sample rate. So teacher and
students may read other rates and features, and have the same frames where their hops are the same.
"""

# Shape letters: B clips in a batch, T samples of a waveform, L frames, M mel bands, F bins of a spectrum.

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import inf, isfinite
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from softlab.errors import InvalidOption, check_option
from softlab.modalities.audio.decode import HIGHEST_RATE, LOWEST_RATE, Clip, resample
from softlab.modalities.inputs import Collated, Inputs, Units

FLOOR = 1e-8
"""The least energy of a mel band, so that silence has a logarithm: 80 dB below noise of deviation 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AudioInput:
    """How a model wants its clips: sample rate, length, and a waveform or the log-mel spectrogram of it."""

    modality: ClassVar[str] = "audio"

    sample_rate: int = 16_000
    """Samples a second; clips of other rates are resampled."""

    seconds: float | None = None
    """Longer clips lose their end, shorter ones are filled up with silence.

    Default: batches are filled up to their longest clip, and the model is told `lengths`."""

    features: Literal["log_mel", "wave"] = "log_mel"
    """What the model is given: the logarithms of mel bands, [clips, frames, bands], or the waveform."""

    hop_ms: float = 10.0
    """Milliseconds from frame to frame. Of students that learn frames it is their teacher's."""

    window_ms: float = 25.0
    """Milliseconds of sound in a frame of log_mel."""

    mels: int = 64
    """How many mel bands, from 0 Hz to half of the sample rate."""

    log_mean: float = -10.0
    """Mean of the logarithms of mel bands, which is subtracted."""

    log_std: float = 5.0
    """Their standard deviation, which divides them then."""

    unit: Literal["", "frame"] = ""
    """What a model has a row of outputs for: frame, or the clip as a whole."""

    def __post_init__(self) -> None:
        rates = f"{LOWEST_RATE} to {HIGHEST_RATE}, samples a second"
        check_option(LOWEST_RATE <= self.sample_rate <= HIGHEST_RATE, "input.sample_rate", self.sample_rate, rates)
        for name in ("hop_ms", "window_ms", "seconds", "log_std"):
            value = getattr(self, name)
            check_option(value is None or 0 < value < inf, f"input.{name}", value, "a number above 0")
        check_option(self.mels >= 1, "input.mels", self.mels, "1 or more")
        check_option(isfinite(self.log_mean), "input.log_mean", self.log_mean, "a finite number")
        check_option(self.features in ("log_mel", "wave"), "input.features", self.features, "log_mel or wave")
        check_option(self.unit in ("", "frame"), "input.unit", self.unit, "frame, or nothing for whole clips")
        if _samples(self.sample_rate, self.hop_ms).denominator != 1:
            raise InvalidOption(
                f"input.hop_ms = {self.hop_ms:g}: is {float(_samples(self.sample_rate, self.hop_ms)):g} samples at "
                f"{self.sample_rate:,} Hz. Give a hop of whole samples, or another `input.sample_rate`."
            )
        if self.features == "log_mel":
            mel_filters(self)

    @property
    def hop(self) -> int:
        """Samples from frame to frame."""
        return int(_samples(self.sample_rate, self.hop_ms))

    @property
    def window(self) -> int:
        """Samples of a frame."""
        return max(2, round(_samples(self.sample_rate, self.window_ms)))

    @property
    def most_samples(self) -> int | None:
        """Of a clip; None where it may be of any length."""
        return None if self.seconds is None else max(1, int(_samples(self.sample_rate, 1000 * self.seconds)))

    @property
    def silence(self) -> float:
        """What a mel band of silence is."""
        return (float(torch.tensor(FLOOR).log()) - self.log_mean) / self.log_std

    def num_samples(self, clip: Clip) -> int:
        """Of the whole clip at the model's rate: rounded down, so that its frames are as many at any rate."""
        return max(1, len(clip.samples_T) * self.sample_rate // clip.rate)


def collate_clips(clips: Sequence[Clip], options: AudioInput) -> Collated:
    """Waveforms [B, T] or log-mel spectrograms [B, L, M], and where `seconds` isn't said `lengths` [B]: how many of
    these samples or frames are the clip's own. With `unit` the rows of frames."""
    waves = [fit(clip, options) for clip in clips]
    totals, most = [options.num_samples(clip) for clip in clips], options.most_samples
    own = [min(total, most or total) for total in totals]
    frames = [torch.arange(1 + length // options.hop) for length in own]
    total_frames, most_frames = [1 + total // options.hop for total in totals], 1 + max(map(len, waves)) // options.hop
    if options.features == "wave":
        sounds, lengths_B = pad_sequence(waves, batch_first=True), torch.tensor(own)
    else:
        spectra = [log_mel(wave_T, options) for wave_T in waves]
        sounds = pad_sequence(spectra, batch_first=True, padding_value=options.silence)
        lengths_B = torch.tensor([len(each) for each in frames])
    return Collated(
        inputs=Inputs(positional=(sounds,), named={"lengths": lengths_B} if most is None else {}),
        units=Units.numbered(frames, frames, totals=total_frames, length=most_frames) if options.unit else None,
        cut_off=sum(total > length for total, length in zip(totals, own, strict=True)),
    )


def fit(clip: Clip, options: AudioInput) -> Tensor:
    """The waveform [T] at the model's rate, of its length where it has one."""
    length, most = options.num_samples(clip), options.most_samples
    if most is not None and length > most:  # the end is cut off before it is resampled
        clip = Clip(clip.samples_T[: 1 + most * clip.rate // options.sample_rate], clip.rate)
    samples_T = resample(clip, options.sample_rate)[: min(length, most or length)]
    return torch.nn.functional.pad(samples_T, (0, (most or length) - len(samples_T)))


def log_mel(wave_T: Tensor, options: AudioInput) -> Tensor:
    """float32 [L, M]: the logarithm of each band's mean energy, less the mean and divided by the deviation. Noise of
    deviation s has the energy s^2. Frame k is centred at sample k * hop, with silence around the clip."""
    window = torch.hann_window(options.window)
    spectrum_FL = torch.stft(
        wave_T, _num_bins(options), options.hop, options.window, window, pad_mode="constant", return_complex=True
    )
    energy_FL = spectrum_FL.abs().square() / window.square().sum()
    filters_FM = mel_filters(options)
    energy_LM = energy_FL.T @ (filters_FM / filters_FM.sum(dim=0))
    return (energy_LM.clamp(min=FLOOR).log() - options.log_mean) / options.log_std


@functools.lru_cache(maxsize=16)
def mel_filters(options: AudioInput) -> Tensor:
    """float32 [F, M]: triangles of equal width on the mel scale, 2595 log10(1 + Hz / 700), as HTK has it. Raises
    InvalidOption where a band lies between two bins of the spectrum."""
    top = options.sample_rate / 2
    edges = torch.linspace(0, 2595 * torch.tensor(1 + top / 700).log10().item(), options.mels + 2, dtype=torch.float64)
    edges_M = 700 * (10 ** (edges / 2595) - 1)
    bins_F1 = torch.linspace(0, top, _num_bins(options) // 2 + 1, dtype=torch.float64)[:, None]
    low_M, centre_M, high_M = edges_M[:-2], edges_M[1:-1], edges_M[2:]
    rising_FM, falling_FM = (bins_F1 - low_M) / (centre_M - low_M), (high_M - bins_F1) / (high_M - centre_M)
    filters_FM = torch.minimum(rising_FM, falling_FM).clamp(min=0)
    if not bool(filters_FM.any(dim=0).all()):
        raise InvalidOption(
            f"input.mels = {options.mels}: so many bands are narrower than what a window of {options.window_ms:g} ms "
            f"tells apart. Give fewer, or a longer `input.window_ms`."
        )
    return filters_FM.float()


def _num_bins(options: AudioInput) -> int:
    """Of the transform: a power of two, twice the window at least, so that low bands have bins of their own."""
    return 1 << (2 * options.window - 1).bit_length()


def _samples(rate: int, milliseconds: float) -> Fraction:
    return Fraction(milliseconds).limit_denominator(1_000_000) * rate / 1000

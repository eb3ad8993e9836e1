import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.audio_utils import mel_filter_bank, spectrogram

from softlab.errors import InvalidOption
from softlab.modalities.audio.decode import Clip
from softlab.modalities.audio.inputs import FLOOR, AudioInput, collate_clips, fit, log_mel, mel_filters
from tests.modalities.audio.clips import tone

PLAIN = AudioInput(log_mean=0, log_std=1)


def clip_of(length: int, *, rate: int = 16_000, seed: int = 0) -> Clip:
    return Clip(0.1 * torch.randn(length, generator=torch.Generator().manual_seed(seed)), rate)


@pytest.mark.parametrize(("rate", "window_ms", "mels"), [(16_000, 25.0, 64), (8_000, 32.0, 40), (44_100, 20.0, 80)])
def test_the_log_mel_spectrogram_is_that_of_another_library(rate: int, window_ms: float, mels: int) -> None:
    options = replace(PLAIN, sample_rate=rate, window_ms=window_ms, mels=mels)
    wave_T = clip_of(rate // 2).samples_T
    num_bins = 2 * (len(mel_filters(options)) - 1)
    filters_FM = mel_filter_bank(1 + num_bins // 2, mels, 0, rate / 2, rate, norm=None, mel_scale="htk")
    window_T = np.pad(np.hanning(options.window + 1)[:-1], [(num_bins - options.window) // 2] * 2)

    expected_ML = spectrogram(
        wave_T.numpy(), window_T, num_bins, options.hop, power=2.0, pad_mode="constant", mel_filters=filters_FM
    )

    energy_LM = expected_ML.T / np.square(window_T).sum() / filters_FM.sum(axis=0)
    expected_LM = torch.from_numpy(np.log(np.maximum(energy_LM, FLOOR))).float()
    torch.testing.assert_close(log_mel(wave_T, options), expected_LM, atol=2e-3, rtol=0)


def test_noise_has_the_energy_of_its_deviation_at_any_rate_and_window() -> None:
    for options in (PLAIN, replace(PLAIN, sample_rate=8_000), replace(PLAIN, window_ms=50.0)):
        energy_LM = log_mel(clip_of(32_000).samples_T, options).exp()
        assert energy_LM[5:-5].mean().item() == pytest.approx(0.01, rel=0.05)


def test_mean_and_deviation_are_taken_from_the_logarithms() -> None:
    wave_T = clip_of(4_000).samples_T

    found_LM = log_mel(wave_T, AudioInput(log_mean=-3.0, log_std=2.0))

    torch.testing.assert_close(found_LM, (log_mel(wave_T, PLAIN) + 3) / 2)


def test_silence_is_finite_and_the_same_as_what_fills_a_clip_up() -> None:
    options = AudioInput()

    collated = collate_clips([Clip(torch.zeros(1_600), 16_000), clip_of(8_000)], options)

    (spectra_BLM,) = collated.inputs.positional
    assert spectra_BLM.isfinite().all()
    torch.testing.assert_close(spectra_BLM[0], torch.full((51, 64), options.silence))


@pytest.mark.parametrize("length", [1, 7, 100, 399])
def test_a_clip_shorter_than_a_window_has_a_frame(length: int) -> None:
    collated = collate_clips([clip_of(length)], replace(PLAIN, unit="frame"))

    (spectra_BLM,) = collated.inputs.positional
    assert spectra_BLM.shape == (1, 1 + length // 160, 64)
    assert spectra_BLM.isfinite().all()
    assert collated.units is not None
    assert collated.units.rows_B.tolist() == [1 + length // 160]


@given(
    length=st.integers(1, 30_000),
    rate=st.sampled_from([8_000, 11_025, 16_000, 22_050, 44_100]),
    rates=st.tuples(*[st.sampled_from([8_000, 16_000, 32_000, 48_000])] * 2),
    hop_ms=st.sampled_from([5.0, 10.0, 20.0]),
    seconds=st.sampled_from([None, 0.25, 0.3]),
)
def test_a_clip_has_the_same_frames_at_any_rate_that_a_model_has(
    length: int, rate: int, rates: tuple[int, int], hop_ms: float, seconds: float | None
) -> None:
    """The sound file's own rate may be any other."""
    clip, frames = clip_of(length, rate=rate), []
    for each in rates:
        for features in ("wave", "log_mel"):
            options = AudioInput(
                sample_rate=each, hop_ms=hop_ms, seconds=seconds, unit="frame", features=features, mels=20
            )
            units = collate_clips([clip], options).units
            assert units is not None
            assert units.totals_B is not None
            frames.append((units.rows_B.tolist(), units.totals_B.tolist(), units.keys_R.tolist(), units.length))

    assert frames[1:] == frames[:-1]
    assert frames[0][1] == [1 + int(length * 1_000 // (rate * hop_ms))]


def test_frames_of_a_tone_are_at_the_same_time_at_any_rate() -> None:
    """A beep from 0.25 s on is seen by the frames from number 25 on."""
    samples_T = np.concatenate([np.zeros(2_000), tone(1_000, seconds=0.25)])
    clip = Clip(torch.from_numpy(samples_T).float(), 8_000)

    for rate in (8_000, 16_000, 48_000):
        spectrum_LM = log_mel(fit(clip, replace(PLAIN, sample_rate=rate)), replace(PLAIN, sample_rate=rate))
        loud_L = spectrum_LM.exp().mean(dim=1) > 1e-3
        assert loud_L.nonzero()[0].item() in (24, 25)


def test_a_length_that_is_said_cuts_the_end_off_or_fills_it_with_silence() -> None:
    short, long = clip_of(1_000), clip_of(9_000)
    options = replace(PLAIN, features="wave", seconds=0.25)

    collated = collate_clips([short, long], options)

    (waves_BT,) = collated.inputs.positional
    assert not collated.inputs.named
    torch.testing.assert_close(waves_BT[0], torch.cat([short.samples_T, torch.zeros(3_000)]))
    torch.testing.assert_close(waves_BT[1], long.samples_T[:4_000])
    assert collated.cut_off == 1


@pytest.mark.parametrize(("features", "lengths"), [("wave", [1_000, 9_000]), ("log_mel", [7, 57])])
def test_without_a_length_a_model_is_told_how_long_each_clip_is(features: Any, lengths: list[int]) -> None:
    collated = collate_clips([clip_of(1_000), clip_of(9_000)], replace(PLAIN, features=features, unit="frame"))

    (sounds,) = collated.inputs.positional
    assert collated.inputs.named["lengths"].tolist() == lengths
    assert sounds.shape[1] == lengths[1]
    assert collated.units is not None
    assert collated.units.rows_B.tolist() == [7, 57]
    assert collated.units.keys_R.tolist() == [*range(7), *range(57, 114)]
    assert collated.cut_off == 0


@pytest.mark.parametrize("features", ["wave", "log_mel"])
@pytest.mark.parametrize("seconds", [None, 0.5])
def test_a_clip_is_the_same_whatever_its_batch(features: Any, seconds: float | None) -> None:
    options = replace(PLAIN, features=features, seconds=seconds)
    clips = [clip_of(length, seed=length) for length in (300, 9_000, 4_321)]
    (together,) = collate_clips(clips, options).inputs.positional

    for place, clip in enumerate(clips):
        (alone,) = collate_clips([clip], options).inputs.positional
        assert torch.equal(together[place, : alone.shape[1]], alone[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sample_rate": 10}, "input.sample_rate = 10: expected 1000 to 768000"),
        ({"hop_ms": 0.0}, "input.hop_ms = 0.0: expected a number above 0"),
        ({"seconds": -1.0}, "input.seconds = -1.0: expected a number above 0"),
        ({"log_std": float("nan")}, "input.log_std = nan: expected a number above 0"),
        ({"log_mean": float("inf")}, "input.log_mean = inf: expected a finite number"),
        ({"features": "mfcc"}, "input.features = mfcc: expected log_mel or wave"),
        ({"unit": "word"}, "input.unit = word: expected frame, or nothing for whole clips"),
        ({"sample_rate": 22_050}, "input.hop_ms = 10: is 220.5 samples at 22,050 Hz. Give a hop of whole samples"),
        ({"mels": 0}, "input.mels = 0: expected 1 or more"),
        ({"mels": 1_000}, "input.mels = 1000: so many bands are narrower than what a window of 25 ms tells apart"),
    ],
)
def test_options_that_make_no_input_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOption, match=re.escape(message)):
        AudioInput(**options)

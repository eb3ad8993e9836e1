import sys
import warnings

import numpy as np
import pytest
import torch

from softlab.errors import InvalidOption
from softlab.modalities.audio import decode
from softlab.modalities.audio.decode import Clip, decode_clip, resample
from tests.modalities.audio.clips import encode, tone

EXACT = [("WAV", "PCM_16", 4e-5), ("WAV", "PCM_24", 2e-7), ("WAV", "FLOAT", 1e-7), ("FLAC", None, 2e-5)]
LOSSY = [("OGG", "VORBIS", 0.06), ("OGG", "OPUS", 0.06), ("MP3", None, 0.06)]


@pytest.mark.parametrize(("format", "subtype", "most"), [*EXACT, *LOSSY])
def test_a_file_of_any_format_is_the_waveform_that_was_written(format: str, subtype: str | None, most: float) -> None:
    samples_T = tone(440, seconds=1.0, rate=16_000)

    clip = decode_clip(encode(samples_T, rate=16_000, format=format, subtype=subtype))

    written_T = torch.from_numpy(samples_T).float()
    assert (clip.rate, clip.samples_T.dtype, len(clip.samples_T)) == (16_000, torch.float32, 16_000)
    assert (clip.samples_T - written_T)[2_000:-2_000].abs().max() < most


def test_several_channels_become_their_mean() -> None:
    both_TC = np.stack([tone(440), np.zeros(len(tone(440)))], axis=1)

    clip = decode_clip(encode(both_TC, subtype="FLOAT"))

    torch.testing.assert_close(clip.samples_T, torch.from_numpy(tone(440) / 2).float())


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
@pytest.mark.parametrize("format", ["WAV", "AIFF", "FLAC", "OGG", "MP3"])
def test_a_file_that_is_cut_off_is_refused(format: str, share: float) -> None:
    raw = encode(tone(440, seconds=1.0), rate=16_000, format=format)

    with pytest.raises(ValueError, match=r"ends before its sound does|damaged|no samples"):
        decode_clip(raw[: int(len(raw) * share)])


def test_a_wav_file_that_was_written_as_a_stream_has_no_length_to_tell() -> None:
    raw = encode(tone(440))

    streamed = raw[:4] + b"\xff" * 4 + raw[8:]

    assert torch.equal(decode_clip(streamed).samples_T, decode_clip(raw).samples_T)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "not a sound file that libsndfile can read, or a damaged one"),
        (b"\0" * 2_000, "not a sound file that libsndfile can read, or a damaged one"),
        (encode(np.zeros(0)), "it holds no samples"),
        (encode(np.full(9, np.nan), subtype="FLOAT"), "some of its samples are NaN or infinite"),
        (encode(np.full(9, np.inf), subtype="FLOAT"), "some of its samples are NaN or infinite"),
        (encode(np.zeros(9), rate=10), "a sample rate of 10 Hz isn't in 1,000..768,000"),
    ],
)
def test_what_holds_no_sound_is_refused_with_the_reason(raw: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        decode_clip(raw)


def test_a_text_is_no_sound_file() -> None:
    with pytest.raises(TypeError, match="it isn't the bytes of a sound file"):
        decode_clip("a text")


def test_a_file_that_would_fill_the_memory_is_refused_by_its_header(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "MAX_VALUES", 1_000)

    with pytest.raises(ValueError, match=r"4,000 samples of 1 channels are more than 1,000 values \(cut it into clips"):
        decode_clip(encode(tone(440)))


def test_silence_is_a_clip_that_says_so() -> None:
    assert decode_clip(encode(np.zeros(100))).is_silent
    assert not decode_clip(encode(tone(440))).is_silent


@pytest.mark.parametrize(("before", "after"), [(8_000, 16_000), (44_100, 16_000), (16_000, 8_000)])
def test_a_resampled_tone_is_the_same_tone(before: int, after: int) -> None:
    clip = Clip(torch.from_numpy(tone(440, rate=before)).float(), before)

    resampled_T = resample(clip, after)

    expected_T = torch.from_numpy(tone(440, rate=after)).float()
    assert abs(len(resampled_T) - len(expected_T)) <= 1
    torch.testing.assert_close(resampled_T[500:3_000], expected_T[500:3_000], atol=2e-4, rtol=0)


@pytest.mark.parametrize("package", ["soundfile", "soxr"])
def test_a_missing_package_is_named_with_what_installs_it(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = encode(tone(440))
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(InvalidOption, match=rf"^audio .*{package}\. Install it: pip install 'softlab\[audio\]'$"):
        resample(decode_clip(raw), 16_000)


def test_decoding_writes_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decode_clip(encode(tone(440)))

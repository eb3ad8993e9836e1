import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from softlab.errors import InvalidOption
from softlab.manifest import MixingRecord, TransformRecord, ViewsRecord
from softlab.modalities.audio.decode import Clip
from softlab.modalities.audio.modality import MODALITY
from softlab.modalities.audio.views import AudioViews
from softlab.modalities.views import describe_views, record_views

LONG = Clip((torch.arange(20_001) - 10_000) / 10_000, 16_000)


def view_of(clip: Clip, views: AudioViews, *, index: int = 0, view: int = 0) -> Clip:
    replay = MODALITY.replay(record_views(views, num_views=100, digest_every=0), num_samples=10)
    found: Clip = replay.views([index], [view], lambda _: clip)[0].example
    return found


def test_a_cut_clip_is_one_stretch_of_it() -> None:
    starts = []
    for view in range(40):
        samples_T = view_of(LONG, AudioViews(crop=0.4), view=view).samples_T
        start = int((LONG.samples_T == samples_T[0]).nonzero())
        assert torch.equal(samples_T, LONG.samples_T[start : start + 12_001])
        starts.append(start)

    assert min(starts) < 1_000
    assert max(starts) > 7_000
    assert np.mean(starts) == pytest.approx(4_000, abs=800)


def test_gain_changes_all_samples_alike_within_its_decibels() -> None:
    gains = []
    for view in range(40):
        ratio_T = view_of(LONG, AudioViews(gain=6.0), view=view).samples_T / LONG.samples_T
        assert ratio_T[LONG.samples_T != 0].std() < 1e-5
        gains.append(20 * np.log10(ratio_T[0].item()))

    assert -6 <= min(gains) < -3
    assert 3 < max(gains) <= 6


def test_noise_lies_below_the_largest_sample_by_its_decibels() -> None:
    added_T = view_of(LONG, AudioViews(noise=20.0)).samples_T - LONG.samples_T

    assert added_T.abs().max() == pytest.approx(0.1, rel=0.01)
    assert added_T.mean() == pytest.approx(0.0, abs=0.002)
    assert added_T.std() == pytest.approx(0.1 / 3**0.5, rel=0.03)


def test_noise_of_0_decibels_is_as_loud_as_the_clip() -> None:
    views = AudioViews(noise=0.0)

    assert views.is_random
    assert (view_of(LONG, views).samples_T - LONG.samples_T).abs().max() == pytest.approx(1.0, rel=0.01)


def test_a_mask_silences_one_stretch() -> None:
    shares = []
    for view in range(40):
        clip = view_of(Clip(torch.ones(10_000), 8_000), AudioViews(mask=0.5), view=view)
        silent_N = (clip.samples_T == 0).nonzero()[:, 0]
        assert len(silent_N) == 0 or int(silent_N[-1] - silent_N[0]) == len(silent_N) - 1
        shares.append(len(silent_N) / 10_000)

    assert max(shares) <= 0.5
    assert np.mean(shares) == pytest.approx(0.25, abs=0.06)


@given(
    length=st.integers(1, 50),
    seed=st.integers(0, 2**63 - 1),
    view=st.integers(0, 7),
    crop=st.floats(0.01, 0.99),
    mask=st.floats(0.01, 0.99),
)
def test_a_view_is_a_function_of_seed_view_and_sample(
    length: int, seed: int, view: int, crop: float, mask: float
) -> None:
    views = AudioViews(crop=crop, gain=3.0, noise=30.0, mask=mask, seed=seed)
    clip = Clip(torch.ones(length), 8_000)

    found = view_of(clip, views, view=view)

    assert len(found.samples_T) == max(1, math.ceil(length * (1 - crop)))
    assert torch.equal(view_of(clip, views, view=view).samples_T, found.samples_T)
    assert torch.equal(clip.samples_T, torch.ones(length))
    assert found.samples_T.isfinite().all()


def test_views_and_samples_differ() -> None:
    views = AudioViews(noise=20.0)

    digests = {MODALITY.digest(view_of(LONG, views, index=index, view=view)) for index in range(3) for view in range(3)}

    assert len(digests) == 9


def test_a_silent_clip_stays_silent_and_finite() -> None:
    found = view_of(Clip(torch.zeros(100), 8_000), AudioViews(crop=0.1, gain=6, noise=10, mask=0.1))

    assert found.is_silent
    assert found.samples_T.isfinite().all()


def test_what_is_drawn_stays_the_same_in_later_versions() -> None:
    views = AudioViews(crop=0.5, gain=6.0, noise=20.0, mask=0.5, seed=3)

    assert f"{MODALITY.digest(view_of(LONG, views, index=5, view=2)):016x}" == "acd37adbae6b2511"


def test_no_views_are_the_clips_as_they_are() -> None:
    assert not AudioViews(seed=3).is_random
    (view,) = MODALITY.replay(ViewsRecord(num_views=1), num_samples=4).views([2], [0], lambda index: LONG)
    assert view.example is LONG


def test_views_are_described_in_a_line() -> None:
    views = record_views(AudioViews(crop=0.2, gain=6.0, noise=0.0, mask=0.1), num_views=2, digest_every=0)

    assert describe_views(views) == "CutClip(share=0.2), Gain(db=6.0), Noise(db=0.0), MaskTime(share=0.1) (seed 0)"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": 1.0}, "augment.crop = 1.0: expected 0 to below 1"),
        ({"mask": -0.1}, "augment.mask = -0.1: expected 0 to below 1"),
        ({"gain": -1.0}, "augment.gain = -1.0: expected 0 to 120 dB"),
        ({"noise": float("nan")}, "augment.noise = nan: expected -120 to 120 dB"),
        ({"seed": -1}, "augment.seed = -1: expected 0 to 2^63 - 1"),
    ],
)
def test_options_that_make_no_views_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOption, match=re.escape(message)):
        AudioViews(**options)


@pytest.mark.parametrize(
    "transform",
    [
        TransformRecord(name="RandomHorizontalFlip", arguments={"p": 0.5}),
        TransformRecord(name="Gain", arguments={}),
        TransformRecord(name="Gain", arguments={"db": 1e9}),
        TransformRecord(name="Noise", arguments={"db": "loud"}),
        TransformRecord(name="CutClip", arguments={"share": 0.1, "more": 1}),
        TransformRecord(name="MaskTime", arguments={"share": 2.0}),
    ],
)
def test_a_record_of_other_views_is_refused(transform: TransformRecord) -> None:
    record = ViewsRecord(num_views=1, transforms=(transform,))

    with pytest.raises(InvalidOption, match="clips have no such views"):
        MODALITY.replay(record, num_samples=4)


def test_clips_are_not_mixed() -> None:
    with pytest.raises(InvalidOption, match="clips have no such views"):
        MODALITY.replay(
            ViewsRecord(num_views=1, mixing=MixingRecord(mixup=0.2, cutmix=None, cutmix_share=0.5, share=1.0)),
            num_samples=4,
        )

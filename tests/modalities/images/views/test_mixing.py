import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms import v2

from softlab.errors import InvalidOption
from softlab.manifest import MixingRecord
from softlab.modalities.images.views.mixing import Mix, draw_mix, mix_images
from tests.modalities.images.views.calls import make_replay, random_image

# Shape letters: B images in a batch, C channels, H height, W width, D draws.

NUM_DRAWS = 4000
FIVE_SIGMA = 5.0
"""The draws are those of fixed keys: a test that passes once passes always."""


def make_mixing(
    *, mixup: float | None = None, cutmix: float | None = None, cutmix_share: float = 0.5, share: float = 1.0
) -> MixingRecord:
    return MixingRecord(mixup=mixup, cutmix=cutmix, cutmix_share=cutmix_share, share=share)


def draw_many(mixing: MixingRecord, *, sample: int = 2, num_samples: int = 6) -> list[Mix | None]:
    """Of keys that differ by one: what is drawn has to come from all of their bits."""
    return [draw_mix(mixing, key, sample=sample, num_samples=num_samples) for key in range(NUM_DRAWS)]


def mixes_of(mixing: MixingRecord) -> list[Mix]:
    return [mix for mix in draw_many(mixing) if mix is not None]


def assert_share(found: int, share: float, *, of: int = NUM_DRAWS) -> None:
    """As often as a binomial distribution makes likely."""
    assert abs(found - share * of) <= FIVE_SIGMA * math.sqrt(share * (1 - share) * of)


weights = st.floats(0, 1)
centres = st.tuples(st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True))
sizes = st.integers(1, 12)


# Pixels of MixUp.


def blend(image_CHW: Tensor, partner_CHW: Tensor, *, weight: float) -> Tensor:
    """Zhang, Cisse, Dauphin, Lopez-Paz (2018), equation 1, in float64 and rounded."""
    mixed_CHW = weight * image_CHW.double() + (1 - weight) * partner_CHW.double()
    return torch.floor(mixed_CHW + 0.5).to(torch.uint8)


@given(weights)
def test_mixup_blends_every_pair_of_pixels(weight: float) -> None:
    image_CHW = torch.arange(256, dtype=torch.uint8).expand(1, 256, 256)
    partner_CHW = image_CHW.mT

    mixed_CHW, found_weight = mix_images(image_CHW, partner_CHW, Mix(partner=1, weight=weight, centre=None))

    assert mixed_CHW.dtype == torch.uint8
    assert abs(found_weight - weight) <= 2**-17
    assert torch.equal(mixed_CHW, blend(image_CHW, partner_CHW, weight=found_weight))


def test_mixup_is_torchvisions_to_half_a_grey_level() -> None:
    images_BCHW = torch.stack([random_image(seed=seed) for seed in range(2)])
    for seed in range(20):
        torch.manual_seed(seed)
        expected_BCHW, labels_BK = v2.MixUp(alpha=0.7, num_classes=2)(images_BCHW.double(), torch.tensor([0, 1]))
        mix = Mix(partner=1, weight=labels_BK[0, 0].item(), centre=None)

        mixed_CHW, weight = mix_images(images_BCHW[0], images_BCHW[1], mix)

        assert weight == pytest.approx(mix.weight, abs=2**-17)
        torch.testing.assert_close(mixed_CHW.double(), expected_BCHW[0], atol=0.5 + 255 * 2**-17, rtol=0)


@pytest.mark.parametrize(("weight", "expected"), [(0.0, 200), (1.0, 100), (0.5, 150), (0.25, 175), (0.995, 101)])
def test_mixup_gives_an_image_its_weight(weight: float, expected: int) -> None:
    image_CHW, partner_CHW = (torch.full((1, 2, 2), value, dtype=torch.uint8) for value in (100, 200))

    mixed_CHW, _ = mix_images(image_CHW, partner_CHW, Mix(partner=1, weight=weight, centre=None))

    assert mixed_CHW.tolist() == [[[expected] * 2] * 2]


# Pixels of CutMix.


@given(weights, centres, sizes, sizes)
def test_cutmix_replaces_a_box_and_weighs_it_by_its_pixels(
    weight: float, centre: tuple[float, float], height: int, width: int
) -> None:
    """Yun et al. (2019), equation 2, pixel by pixel: the box is centred on a pixel, and ends at the image's edges."""
    image_CHW, partner_CHW = torch.zeros(3, height, width, dtype=torch.uint8), torch.ones(3, height, width).byte()
    half_height, half_width = int(height * math.sqrt(1 - weight) / 2), int(width * math.sqrt(1 - weight) / 2)
    middle_y, middle_x = int(centre[0] * height), int(centre[1] * width)
    expected = [
        [-half_height <= y - middle_y < half_height and -half_width <= x - middle_x < half_width for x in range(width)]
        for y in range(height)
    ]

    mixed_CHW, found_weight = mix_images(image_CHW, partner_CHW, Mix(partner=1, weight=weight, centre=centre))

    assert torch.equal(mixed_CHW, torch.tensor(expected).expand(3, height, width).byte())
    assert found_weight == 1 - np.sum(expected) / (height * width)


def test_cutmix_is_torchvisions_to_the_pixel() -> None:
    images_BCHW = torch.stack([random_image(seed=seed) for seed in range(2)])
    _, _, height, width = images_BCHW.shape
    for seed in range(50):
        torch.manual_seed(seed)
        expected_BCHW, labels_BK = v2.CutMix(alpha=0.9, num_classes=2)(images_BCHW, torch.tensor([0, 1]))
        torch.manual_seed(seed)
        alpha = torch.tensor([0.9])
        weight = torch.distributions.Beta(alpha, alpha).sample().item()
        middle_x, middle_y = torch.randint(width, size=(1,)).item(), torch.randint(height, size=(1,)).item()
        mix = Mix(partner=1, weight=weight, centre=((middle_y + 0.5) / height, (middle_x + 0.5) / width))

        mixed_CHW, found_weight = mix_images(images_BCHW[0], images_BCHW[1], mix)

        assert torch.equal(mixed_CHW, expected_BCHW[0])
        assert found_weight == pytest.approx(labels_BK[0, 0].item(), abs=1e-6)


# Both.


@pytest.mark.parametrize("centre", [None, (0.4, 0.6)])
def test_the_images_are_left_as_they_were(centre: tuple[float, float] | None) -> None:
    image_CHW, partner_CHW = random_image(seed=0), random_image(seed=1)
    before = image_CHW.clone(), partner_CHW.clone()

    mixed_CHW, _ = mix_images(image_CHW, partner_CHW, Mix(partner=1, weight=0.5, centre=centre))
    mixed_CHW.zero_()

    assert torch.equal(image_CHW, before[0])
    assert torch.equal(partner_CHW, before[1])


@pytest.mark.parametrize("centre", [None, (0.4, 0.6)])
@pytest.mark.parametrize(
    ("shape", "text"), [((3, 20, 25), "3x20x24 and 3x20x25"), ((1, 20, 24), "3x20x24 and 1x20x24")]
)
def test_images_of_two_sizes_or_kinds_are_refused(
    centre: tuple[float, float] | None, shape: tuple[int, ...], text: str
) -> None:
    partner_CHW = torch.zeros(shape, dtype=torch.uint8)

    with pytest.raises(InvalidOption, match=f"two of them are {text} .channels x height x width.. End the transforms"):
        mix_images(random_image(), partner_CHW, Mix(partner=1, weight=0.5, centre=centre))


# What is drawn.


@pytest.mark.parametrize("sample", [0, 2, 5])
def test_the_partner_is_any_other_sample(sample: int) -> None:
    mixes = draw_many(make_mixing(mixup=1.0), sample=sample)

    partners = [mix.partner for mix in mixes if mix is not None]
    assert set(partners) == set(range(6)) - {sample}
    for partner in set(partners):
        assert_share(partners.count(partner), 1 / 5)


def test_of_two_samples_each_is_the_others_partner() -> None:
    for sample in (0, 1):
        mixes = draw_many(make_mixing(cutmix=1.0), sample=sample, num_samples=2)

        assert {mix.partner for mix in mixes if mix is not None} == {1 - sample}


@pytest.mark.parametrize("share", [0.0, 0.1, 0.75, 1.0])
def test_so_many_views_are_mixed(share: float) -> None:
    assert_share(len(mixes_of(make_mixing(mixup=1.0, share=share))), share)


@pytest.mark.parametrize("cutmix_share", [0.0, 0.3, 1.0])
def test_so_many_mixed_views_are_cut(cutmix_share: float) -> None:
    mixes = mixes_of(make_mixing(mixup=1.0, cutmix=1.0, cutmix_share=cutmix_share))

    assert_share(sum(mix.centre is not None for mix in mixes), cutmix_share)


@pytest.mark.parametrize("cutmix_share", [0.0, 0.3, 1.0])
def test_the_share_of_cut_views_says_nothing_where_only_one_kind_is_asked_for(cutmix_share: float) -> None:
    blended = mixes_of(make_mixing(mixup=1.0, cutmix_share=cutmix_share))
    cut = mixes_of(make_mixing(cutmix=1.0, cutmix_share=cutmix_share))

    assert {mix.centre is None for mix in blended} == {True}
    assert {mix.centre is None for mix in cut} == {False}


def assert_moments(drawn_D: NDArray[np.float64], *, mean: float, variance: float, fourth: float) -> None:
    """`fourth` is the fourth central moment."""
    error = math.sqrt(variance / len(drawn_D))
    variance_error = math.sqrt((fourth - variance**2) / len(drawn_D))
    assert abs(drawn_D.mean() - mean) <= FIVE_SIGMA * error
    assert abs(((drawn_D - mean) ** 2).mean() - variance) <= FIVE_SIGMA * variance_error


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
@pytest.mark.parametrize("alpha", [0.001, 0.2, 1.0, 4.0, 1000.0])
def test_weights_have_the_moments_of_a_beta_distribution(kind: str, alpha: float) -> None:
    mixes = mixes_of(make_mixing(mixup=alpha) if kind == "mixup" else make_mixing(cutmix=alpha))

    weights_D = np.array([mix.weight for mix in mixes])
    variance = 1 / (4 * (2 * alpha + 1))
    assert ((weights_D >= 0) & (weights_D <= 1)).all()
    assert_moments(weights_D, mean=0.5, variance=variance, fourth=3 * variance**2 * (2 * alpha + 1) / (2 * alpha + 3))


def test_each_kind_has_its_own_alpha() -> None:
    mixes = mixes_of(make_mixing(mixup=1000.0, cutmix=0.001))

    blended = [mix.weight for mix in mixes if mix.centre is None]
    cut = [mix.weight for mix in mixes if mix.centre is not None]
    assert all(abs(weight - 0.5) < 0.1 for weight in blended)
    assert np.mean([abs(weight - 0.5) > 0.4 for weight in cut]) > 0.95


def test_boxes_are_centred_anywhere() -> None:
    centres_D2 = np.array([mix.centre for mix in mixes_of(make_mixing(cutmix=1.0))])

    assert ((centres_D2 >= 0) & (centres_D2 < 1)).all()
    for drawn_D in centres_D2.T:
        assert_moments(drawn_D, mean=1 / 2, variance=1 / 12, fourth=1 / 80)


def test_what_is_drawn_for_one_purpose_tells_nothing_about_another() -> None:
    mixes = mixes_of(make_mixing(cutmix=1.0))
    drawn_XD = np.array([(mix.partner, mix.weight, *(mix.centre or ())) for mix in mixes]).T

    correlations = np.corrcoef(drawn_XD) - np.eye(4)
    assert np.abs(correlations).max() <= FIVE_SIGMA / math.sqrt(NUM_DRAWS)


def test_the_same_key_draws_the_same() -> None:
    mixing = make_mixing(mixup=0.4, cutmix=1.0, share=0.8)
    np.random.seed(0)
    before = draw_many(mixing)

    np.random.seed(1)

    assert draw_many(mixing) == before


# In a replay.


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_a_view_is_mixed_with_the_partners_own_view(kind: str) -> None:
    transforms = ("RandomCrop(16)", "ColorJitter(0.5)")
    images = [random_image(seed=seed) for seed in range(10)]
    options: dict[str, Any] = {kind: 1.0}
    mixed, unmixed = make_replay(*transforms, **options), make_replay(*transforms)

    for view in range(5):
        plain = unmixed.views(list(range(10)), [view] * 10, images.__getitem__)
        for sample, seen in enumerate(mixed.views(list(range(10)), [view] * 10, images.__getitem__)):
            own_CHW, partner_CHW = plain[sample].example, plain[seen.partner].example

            assert seen.partner != sample
            if kind == "mixup":
                assert torch.equal(seen.example, blend(own_CHW, partner_CHW, weight=seen.weight))
            else:
                is_own_HW = (seen.example == own_CHW).all(dim=0)
                is_partner_HW = (seen.example == partner_CHW).all(dim=0)
                assert (is_own_HW | is_partner_HW).all()
                assert is_own_HW.double().mean() == pytest.approx(seen.weight)


def test_unmixed_views_are_their_own_partner() -> None:
    replay = make_replay("RandomHorizontalFlip()", mixup=1.0, mix_share=0.0)

    (seen,) = replay.views([3], [0], lambda number: random_image(seed=number))

    assert (seen.partner, seen.weight) == (3, 1.0)


def test_a_single_sample_is_not_mixed() -> None:
    with pytest.raises(InvalidOption, match=r"need a second sample to mix with\. Add samples, or leave mixing out"):
        make_replay(mixup=1.0, num_samples=1)


def test_a_data_set_of_two_sizes_is_refused_when_they_meet() -> None:
    def read(number: int) -> Tensor:
        return random_image(height=10 + number)

    with pytest.raises(InvalidOption, match="MixUp and CutMix need images of one size and kind"):
        make_replay(cutmix=1.0).views([4], [0], read)
    assert make_replay("Resize([8, 8])", cutmix=1.0).views([4], [0], read)[0].example.shape == (3, 8, 8)

import math
import pickle
import random
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from softlab.errors import InvalidOption
from softlab.indices import RecipeIndex, SourceIndex
from softlab.loading.aligned import Aligned
from softlab.loading.loader import BatchLoader, LoaderOptions
from softlab.loading.order import RowIndices
from softlab.manifest import MixingRecord, TransformRecord, ViewsRecord
from softlab.modalities.images.inputs import ImageInput, make_input
from softlab.modalities.images.views.mixing import Mix, draw_mix
from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.modalities.images.views.replay import ImageReplay
from softlab.modalities.images.views.transforms import build_transform, parse_transform
from softlab.modalities.views import View, draw, record_views, tensor_digest
from tests.loading.labelled import open_rows
from tests.modalities.images.batches import images_in
from tests.modalities.images.views.calls import CALLS, make_replay, random_image
from tests.sources.pictures import image_of, image_rows

# Shape letters: B images in a batch, C channels, H height, W width.

NUM_SAMPLES = 10
FIVE_SIGMA = 5.0
"""The draws are those of fixed seeds: a test that passes once passes always."""

RECIPES: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "as they are": ((), {}),
    "flip and crop": (("RandomHorizontalFlip()", "RandomCrop(16, padding=2)"), {"seed": 3}),
    "colours": (("RandomPhotometricDistort(p=1.0)", "AugMix()", "RandomErasing(0.8)"), {}),
    "policy": (("RandAugment()", "RandomChoice([RandomInvert(1.0), RandomEqualize(1.0)])"), {"seed": 2**63 - 1}),
    "mixup": ((), {"mixup": 0.4}),
    "cutmix": (("RandomResizedCrop([9, 11])",), {"cutmix": 1.0, "mix_share": 0.7}),
    "both": (("ColorJitter(0.4, 0.4, 0.4, 0.1)",), {"mixup": 0.4, "cutmix": 1.0, "cutmix_share": 0.3, "seed": 9}),
}
IMAGES = [random_image(seed=seed) for seed in range(NUM_SAMPLES)]


def replay_of(recipe: str) -> ImageReplay:
    transforms, options = RECIPES[recipe]
    return make_replay(*transforms, num_samples=NUM_SAMPLES, **options)


def view_of(replay: ImageReplay, sample: int, view: int) -> View:
    (seen,) = replay.views([sample], [view], IMAGES.__getitem__)
    return seen


def assert_same_view(found: View, expected: View) -> None:
    """To the bit."""
    assert torch.equal(found.example, expected.example)
    assert (found.partner, found.weight) == (expected.partner, expected.weight)


def global_random_states() -> tuple[object, ...]:
    _, keys, *position = np.random.get_state()
    assert isinstance(keys, np.ndarray)
    return torch.get_rng_state().tolist(), keys.tolist(), position, random.getstate()


# A view is a pure function of (recipe, view, sample).


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_store_that_begins_with_a_later_view_replays_that_one(recipe: str) -> None:
    transforms, options = RECIPES[recipe]
    views = record_views(ViewRecipe(transforms=transforms, **options), num_views=1, digest_every=0)

    later = ImageReplay(msgspec.structs.replace(views, first=2), num_samples=NUM_SAMPLES)

    for sample in range(NUM_SAMPLES):
        assert_same_view(view_of(later, sample, 1), view_of(replay_of(recipe), sample, 3))


@pytest.mark.parametrize("recipe", ["as they are", "flip and crop", "colours", "policy"])
def test_a_sample_that_had_another_number_is_replayed_by_that_one(recipe: str) -> None:
    transforms, options = RECIPES[recipe]
    views = record_views(ViewRecipe(transforms=transforms, **options), num_views=1, digest_every=0)
    numbers = [1, 4, 5, 9]

    part = ImageReplay(views, num_samples=4, recipe_N=RecipeIndex(np.array(numbers)))

    found = part.views([0, 1, 2, 3], [2] * 4, lambda sample: IMAGES[numbers[sample]])
    for view, number in zip(found, numbers, strict=True):
        assert torch.equal(view.example, view_of(replay_of(recipe), number, 2).example)
    assert part.in_recipe([3, 0], [1, 0]) == [(9, 1), (1, 0)]


ROWS = st.tuples(st.integers(0, NUM_SAMPLES - 1), st.integers(0, 3))


@settings(max_examples=25)
@given(st.sampled_from(list(RECIPES)), st.lists(st.lists(ROWS, max_size=6), max_size=4))
def test_a_view_does_not_depend_on_batches_orders_and_repeats(
    recipe: str, batches: list[list[tuple[int, int]]]
) -> None:
    replay = replay_of(recipe)

    for rows in batches:
        seen = replay.views([sample for sample, _ in rows], [view for _, view in rows], IMAGES.__getitem__)

        for (sample, view), found in zip(rows, seen, strict=True):
            assert_same_view(found, view_of(replay_of(recipe), sample, view))


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_view_does_not_depend_on_what_else_was_drawn(recipe: str) -> None:
    replay, found = replay_of(recipe), []
    for seed in range(3):
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        torch.rand(seed)
        found.append(view_of(replay, 4, 2))

    assert_same_view(found[1], found[0])
    assert_same_view(found[2], found[0])


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    yield
    torch.set_num_threads(before)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    yield
    torch.set_default_dtype(torch.float32)


@contextmanager
def short_products() -> Iterator[None]:
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision("highest")


SETTINGS: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "eight threads": lambda: threads(8),
    "float64 by default": lambda: default_dtype(torch.float64),
    "another device by default": lambda: torch.device("meta"),
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "short products": short_products,
}
"""Of torch, which a script may have chosen for its own reasons."""


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_view_does_not_depend_on_settings_of_the_process(setting: str) -> None:
    # Of this image and view, the first found, eight threads give another mean and with it another pixel in 300.
    noise = np.random.RandomState(4).randint(0, 256, (1, 512, 512)).astype(np.uint8)
    images_of = {
        make_replay("ColorJitter(contrast=0.4)"): (567, torch.from_numpy(noise)),
        make_replay("GaussianBlur(5)", "RandomPerspective(p=1.0)"): (0, torch.from_numpy(noise)),
    }

    for replay, (view, image_CHW) in images_of.items():
        (expected,) = replay.views([0], [view], [image_CHW].__getitem__)
        with SETTINGS[setting]():
            (found,) = replay.views([0], [view], [image_CHW].__getitem__)

        assert_same_view(found, expected)


def test_a_view_is_what_the_transforms_draw_from_its_own_seed() -> None:
    transforms = [build_transform(parse_transform(text)) for text in RECIPES["flip and crop"][0]]
    for sample in range(5):
        torch.manual_seed(draw(3, 1, sample, purpose=b"pixels") & 0xFFFFFFFF)
        expected_CHW = IMAGES[sample]
        for transform in transforms:
            expected_CHW = transform(expected_CHW)

        assert torch.equal(view_of(replay_of("flip and crop"), sample, 1).example, expected_CHW)


def test_another_seed_view_or_sample_is_another_draw() -> None:
    """All of the same image."""
    seen = {}
    for seed in (0, 1, 2**32, 2**63 - 1):
        replay = make_replay("RandomAffine(180)", "ColorJitter(0.9, 0.9)", seed=seed)
        for view in (0, 1, 2, 2**32):
            for sample, found in enumerate(replay.views(list(range(10)), [view] * 10, lambda _: IMAGES[0])):
                seen[seed, view, sample] = tensor_digest(found.example)

    assert len(seen) == 160
    assert len(set(seen.values())) == 160


def flips(*, seed: int, view: int, samples: int = 600) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which samples a view flips."""
    left_CHW = torch.tensor([[[1, 0]]], dtype=torch.uint8)
    replay = make_replay("RandomHorizontalFlip()", seed=seed, num_samples=samples)
    seen = replay.views(list(range(samples)), [view] * samples, lambda _: left_CHW)
    return np.array([bool(found.example[0, 0, 1]) for found in seen])


def test_draws_are_as_likely_as_they_should_be_and_independent() -> None:
    drawn = [flips(seed=seed, view=view) for seed, view in [(0, 0), (0, 1), (0, 2), (1, 0), (2, 0)]]
    limit = FIVE_SIGMA * math.sqrt(600) / 2

    for number, one in enumerate(drawn):
        assert abs(one.sum() - 300) <= limit
        assert abs((one[1:] == one[:-1]).sum() - 299.5) <= limit
        for other in drawn[:number]:
            assert abs((one == other).sum() - 300) <= limit


def test_without_a_random_part_a_view_is_the_image_itself() -> None:
    seen = view_of(replay_of("as they are"), 3, 17)

    assert (seen.partner, seen.weight) == (3, 1.0)
    assert torch.equal(seen.example, IMAGES[3])


# Nothing else is changed.


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_images_read_are_left_as_they_were(recipe: str) -> None:
    images = [image_CHW.clone() for image_CHW in IMAGES]

    replay_of(recipe).views([0, 1, 2, 0, 1, 2], [0, 0, 0, 1, 1, 1], images.__getitem__)

    assert all(map(torch.equal, images, IMAGES))


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_global_random_states_are_left_as_they_were(recipe: str) -> None:
    before = global_random_states()

    replay_of(recipe).views([0, 1, 2], [0, 1, 2], IMAGES.__getitem__)

    assert global_random_states() == before


def global_settings() -> tuple[object, ...]:
    return (
        torch.get_num_threads(),
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.get_float32_matmul_precision(),
        torch.is_autocast_enabled("cpu"),
    )


@pytest.mark.parametrize("setting", SETTINGS)
def test_settings_are_left_as_they_were(setting: str) -> None:
    with SETTINGS[setting]():
        before = global_settings()
        make_replay("ColorJitter(0.5)").views([0], [0], IMAGES.__getitem__)

        assert global_settings() == before


def test_so_they_are_after_an_error() -> None:
    def read(number: int) -> Tensor:
        if number == 2:
            raise OSError("a disk")
        return IMAGES[number]

    before = global_random_states()
    with pytest.raises(OSError, match="a disk"):
        make_replay("ColorJitter(0.5)").views([0, 1, 2], [0, 0, 0], read)
    assert global_random_states() == before
    with pytest.raises(InvalidOption):
        make_replay("ColorJitter(0.5)", "RandomCrop(99)").views([0, 1], [0, 0], read)
    assert global_random_states() == before


# Other processes.


def test_a_replay_of_any_transform_can_be_sent_to_another_process() -> None:
    for text in CALLS:
        replay = make_replay("RandomRotation(10)", text, "Resize([9, 11])", cutmix=1.0, num_samples=NUM_SAMPLES)

        sent: ImageReplay = pickle.loads(pickle.dumps(replay))

        assert_same_view(view_of(sent, 5, 1), view_of(replay, 5, 1))


@pytest.mark.process
@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than a small machine has cores
@pytest.mark.parametrize("recipe", ["flip and crop", "both"])
def test_workers_make_the_same_views(tmp_path: Path, recipe: str) -> None:
    source, small = open_rows(tmp_path / "a.parquet", image_rows(NUM_SAMPLES)), ImageInput(size=(8, 8))
    transforms, options = RECIPES[recipe]
    replay = make_replay("Resize([20, 20])", *transforms, num_samples=NUM_SAMPLES, **options)
    aligned = Aligned(source=source, inputs=(small,), replay=replay, digest_every=1)
    rows = [([6, 0, 3], [1, 0, 2]), ([3, 3], [2, 0]), ([9], [5]), ([1, 2, 8, 7], [0, 0, 0, 0]), ([6], [1])]
    order = [RowIndices(SourceIndex(np.array(samples)), np.array(views)) for samples, views in rows]
    expected = [replay.views(*each, lambda number: image_of(source, number)) for each in rows]

    for workers in (0, 1, 3):
        loader = BatchLoader(aligned, device=torch.device("cpu"), options=LoaderOptions(workers=workers))
        for found, seen in zip(loader.load(order), expected, strict=True):
            assert torch.equal(images_in(found), make_input([each.example for each in seen], small))
            assert found.view_digests == tuple(tensor_digest(each.example) for each in seen)


# Promises to stores on disk: a change of these numbers makes all of them useless.


@pytest.mark.parametrize(
    ("row", "pixels", "mixing"),
    [
        ((0, 0, 0), 0xCA37E1A2840C4724EB66FC9FBD729C5C, 0x80745DCF58B2517A8E8E9B477D2F72CA),
        ((0, 0, 1), 0x6BF79C5D2A30B95BAF9EF7B1F8CDF3A1, 0xC994E081366B579B5D61FF79F8D37BDB),
        ((0, 1, 0), 0x30A7E6ABB3F61FD63C6B1051FFF47454, 0xD099EE7373A60CCBDAAE9D3A1A1A4972),
        ((1, 0, 0), 0xF471497CC7DBD613C47577E5981299C1, 0xB702387EF75AD7D3C603D8CF2C2C56C4),
        ((2**63 - 1, 99_999, 1_281_166), 0xE7B3F9132B8299FDFADA07A774814F8E, 0xEAE07AFFAD40D0EBE53548072EEA7BC9),
    ],
)
def test_what_a_view_draws_from_stays_the_same(row: tuple[int, int, int], pixels: int, mixing: int) -> None:
    assert (draw(*row, purpose=b"pixels"), draw(*row, purpose=b"mixing")) == (pixels, mixing)


BOTH = MixingRecord(mixup=0.2, cutmix=1.0, cutmix_share=0.5, share=1.0)
MIXUP = MixingRecord(mixup=2.0, cutmix=None, cutmix_share=0.5, share=1.0)


@pytest.mark.parametrize(
    ("mixing", "sample", "expected"),
    [
        (BOTH, 0, Mix(partner=673_398, weight=0.9998107048224989, centre=None)),
        (BOTH, 1, Mix(partner=1_068_005, weight=0.4892810301386645, centre=(0.44716051471345053, 0.3922256871127948))),
        (BOTH, 2, Mix(partner=1_027_931, weight=0.32685064326380575, centre=(0.8379988155912939, 0.12848983598787367))),
        (BOTH, 3, Mix(partner=237_463, weight=0.968214422603515, centre=None)),
        (MIXUP, 0, Mix(partner=673_398, weight=0.2823398541656084, centre=None)),
        (MIXUP, 1, Mix(partner=1_068_005, weight=0.7164680575229745, centre=None)),
    ],
)
def test_what_a_view_is_mixed_with_stays_the_same(mixing: MixingRecord, sample: int, expected: Mix) -> None:
    found = draw_mix(mixing, draw(7, 3, sample, purpose=b"mixing"), sample=sample, num_samples=1_281_167)

    assert found is not None
    assert (found.partner, found.centre) == (expected.partner, expected.centre)
    assert found.weight == pytest.approx(expected.weight, rel=1e-12)  # C libraries' powers differ in the last bit


def test_digests_of_pixels_stay_the_same() -> None:
    ascending_CHW = torch.arange(24, dtype=torch.uint8).reshape(2, 3, 4)

    assert tensor_digest(ascending_CHW) == 16_756_897_430_621_430_793
    assert tensor_digest(torch.zeros(1, 28, 28, dtype=torch.uint8)) == 41_617_630_263_057_204


# Digests of pixels.


@given(st.integers(0, 3 * 20 * 24 - 1), st.integers(1, 255))
def test_a_digest_tells_a_single_pixel(place: int, difference: int) -> None:
    image_CHW = random_image()
    changed_CHW = image_CHW.clone()
    changed_CHW.view(-1)[place] += difference

    assert tensor_digest(changed_CHW) != tensor_digest(image_CHW)


def test_a_digest_tells_the_shape() -> None:
    shapes = [(1, 4, 6), (1, 6, 4), (1, 1, 24), (1, 24, 1), (24, 1, 1), (3, 2, 4), (3, 4, 2)]
    pixels = torch.arange(24, dtype=torch.uint8)

    assert len({tensor_digest(pixels.reshape(shape)) for shape in shapes}) == len(shapes)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_digest_does_not_depend_on_the_memory_order(channels: int) -> None:
    image_CHW = random_image(channels)
    layouts = {
        "channels last": image_CHW.permute(1, 2, 0).contiguous().permute(2, 0, 1),
        "transposed": image_CHW.mT.contiguous().mT,
        "cut out": torch.nn.functional.pad(image_CHW, (1, 2, 3, 4))[:, 3:-4, 1:-2],
        "every second": image_CHW.repeat_interleave(2, dim=2)[:, :, ::2],
    }

    for name, layout_CHW in layouts.items():
        assert torch.equal(layout_CHW, image_CHW), name
        assert tensor_digest(layout_CHW) == tensor_digest(image_CHW), name
    assert tensor_digest(image_CHW[:1].expand(3, -1, -1)) == tensor_digest(image_CHW[:1].repeat(3, 1, 1))


# Images that a transform can't take.

REFUSALS = {
    "RandomCrop(28, padding=2)": (
        "transform RandomCrop(size=28, padding=2) can't be applied to an image of 2x20x22 (channels x height x width): "
        "Required crop size (28, 28) is larger than padded input image size (24, 26). Change its arguments, or bring "
        "all images to one size and kind before it."
    ),
    "RandomPhotometricDistort(p=1.0)": "channel values are 1 or 3, but found 2. Change its arguments, or bring all",
    "Grayscale(7)": "transform Grayscale(num_output_channels=7) can't be applied to an image of 2x20x22",
    "RandomPosterize(99, 1)": "can't be applied to an image of 2x20x22",
    "RandAugment(magnitude=99)": "can't be applied to an image of 2x20x22",
    "ElasticTransform(sigma=9.0)": "can't be applied to an image of 2x20x22",
    "RandomChoice([RGB()], p=[-1, 2])": "Length of p doesn't match the number of transforms",
    "RandomChoice([RGB(), RGB()], p=[-1, 2])": "can't be applied to an image of 2x20x22",
    "Resize(0)": "can't be applied to an image of 2x20x22",
    "RandomCrop('28')": "can't be applied to an image of 2x20x22",
    "CenterCrop(-3)": "of 2x20x22 (channels x height x width): nothing is left of it. Change its arguments",
}


@pytest.mark.parametrize("text", REFUSALS)
def test_an_image_that_a_transform_can_not_take_is_refused_in_one_line(text: str) -> None:
    image_CHW = random_image(2, height=20, width=22)

    with pytest.raises(InvalidOption, match=re.escape(REFUSALS[text])) as caught:
        make_replay(text).views([0], [0], lambda _: image_CHW)
    assert "\n" not in str(caught.value)
    assert ".." not in str(caught.value)


def test_a_manifests_transforms_are_checked_before_the_first_view() -> None:
    hostile = ViewsRecord(num_views=1, transforms=(TransformRecord(name="Lambda", arguments={"lambd": "print"}),))

    with pytest.raises(InvalidOption, match="transform 'Lambda' isn't one that views are made of"):
        ImageReplay(hostile, num_samples=3)

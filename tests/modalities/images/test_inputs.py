import re
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional

from softlab.errors import InvalidOption
from softlab.modalities.images.inputs import ImageInput, Interpolation, make_input
from softlab.modalities.modality import options_by_name

# Shape letters: B images in a batch, C channels (1 grey, 3 RGB), H height, W width.


def random_image(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def gradient(*, height: int, width: int) -> Tensor:
    """An image that is brighter to the right and has no fine detail."""
    return torch.linspace(0, 255, width).to(torch.uint8).expand(1, height, width)


@st.composite
def batches(draw: st.DrawFn) -> list[Tensor]:
    """Grey and RGB images, all of one shape or not, in the memory layouts that decoders leave behind."""
    shapes = st.tuples(st.sampled_from([1, 3]), st.integers(1, 40), st.integers(1, 40))
    one = draw(st.none() | shapes)
    return [
        random_image(*shape, seed=seed)
        if draw(st.booleans())
        else random_image(*shape[1:], shape[0], seed=seed).permute(2, 0, 1)
        for seed in range(draw(st.integers(1, 5)))
        for shape in [one or draw(shapes)]
    ]


@given(
    batches(),
    st.tuples(st.integers(2, 40), st.integers(2, 40)),  # torch fails to resize RGB images to a single pixel
    st.none() | st.integers(40, 50),
    st.sampled_from([1, 3]),
)
def test_an_image_does_not_depend_on_the_others_of_its_batch(
    images: list[Tensor], size: tuple[int, int], resize: int | None, channels: Literal[1, 3]
) -> None:
    input = ImageInput(size=size, resize=resize, channels=channels, mean=(0.48,), std=(0.23,))

    finished_BCHW = make_input(images, input)

    assert finished_BCHW.dtype == torch.float32
    assert finished_BCHW.shape == (len(images), channels, *size)
    for image_CHW, finished_CHW in zip(images, finished_BCHW, strict=True):
        assert torch.equal(make_input([image_CHW], input)[0], finished_CHW)


def test_pixels_are_scaled_to_one_and_normalised() -> None:
    image_CHW = torch.tensor([[[0, 255]]], dtype=torch.uint8)

    assert make_input([image_CHW], ImageInput()).tolist() == [[[[-1.0, 1.0]]]]
    assert make_input([image_CHW], ImageInput(mean=(0.0,), std=(0.25,))).tolist() == [[[[0.0, 4.0]]]]


def test_each_channel_has_its_own_mean_and_std() -> None:
    white_CHW = torch.full((3, 1, 1), 255, dtype=torch.uint8)

    finished_BCHW = make_input([white_CHW], ImageInput(mean=(0.0, 0.5, 1.0), std=(1.0, 0.5, 0.25)))

    assert finished_BCHW.flatten().tolist() == [1.0, 1.0, 0.0]


def test_the_images_are_left_as_they_were() -> None:
    image_CHW = random_image(3, 8, 8)
    before_CHW = image_CHW.clone()

    make_input([image_CHW], ImageInput())

    assert torch.equal(image_CHW, before_CHW)


def test_without_a_size_images_keep_their_own() -> None:
    assert make_input([random_image(3, 5, 7)], ImageInput()).shape == (1, 3, 5, 7)


def test_resize_alone_keeps_the_proportions() -> None:
    assert make_input([random_image(1, 20, 30)], ImageInput(resize=10)).shape == (1, 1, 10, 15)


def test_size_alone_squeezes_the_whole_image() -> None:
    image_CHW = gradient(height=32, width=64)

    squeezed_CHW = make_input([image_CHW], ImageInput(size=(16, 16), mean=(0,), std=(1,)))[0]

    assert squeezed_CHW[0, 0, 0] < 0.05
    assert squeezed_CHW[0, 0, -1] > 0.95


def test_resize_and_size_cut_out_the_centre() -> None:
    image_CHW = gradient(height=32, width=64)

    centre_CHW = make_input([image_CHW], ImageInput(size=(16, 16), resize=16, mean=(0,), std=(1,)))[0]

    assert centre_CHW[0, 0, 0] == pytest.approx(0.25, abs=0.03)
    assert centre_CHW[0, 0, -1] == pytest.approx(0.75, abs=0.03)


def test_resizing_agrees_with_pillow_to_one_grey_level() -> None:
    """Pillow's antialiased bilinear is what the published weights of most models were trained with."""
    image_CHW = random_image(3, 61, 47)
    expected_HWC = Image.fromarray(image_CHW.permute(1, 2, 0).numpy()).resize((24, 32), Image.Resampling.BILINEAR)

    finished_CHW = make_input([image_CHW], ImageInput(size=(32, 24), mean=(0,), std=(1,)))[0]

    expected_CHW = torch.from_numpy(np.array(expected_HWC)).permute(2, 0, 1).float()
    torch.testing.assert_close(finished_CHW * 255, expected_CHW, atol=1.001, rtol=0)


def test_grey_becomes_rgb_with_equal_channels() -> None:
    image_CHW = random_image(1, 4, 4)

    finished_BCHW = make_input([image_CHW], ImageInput(channels=3))

    assert torch.equal(finished_BCHW, make_input([image_CHW], ImageInput()).expand(1, 3, 4, 4))


def test_rgb_becomes_grey_by_luminance() -> None:
    red_green_blue = 255 * torch.eye(3, dtype=torch.uint8).reshape(3, 1, 3)

    grey_BCHW = make_input([red_green_blue], ImageInput(channels=1, mean=(0,), std=(1,)))

    torch.testing.assert_close(grey_BCHW.flatten(), torch.tensor([0.299, 0.587, 0.114]), atol=0.005, rtol=0)


def test_grey_and_rgb_images_share_a_batch_once_made_alike() -> None:
    images = [random_image(1, 4, 4), random_image(3, 4, 4)]

    assert make_input(images, ImageInput(channels=3)).shape == (2, 3, 4, 4)


def test_grey_and_rgb_images_as_they_are_do_not_share_a_batch() -> None:
    with pytest.raises(InvalidOption, match=r"Make them alike with `input\.channels = 3`, or 1"):
        make_input([random_image(1, 4, 4), random_image(3, 4, 4)], ImageInput(size=(2, 2)))


@pytest.mark.parametrize("resize", [None, 4])
def test_images_of_different_sizes_do_not_share_a_batch(resize: int | None) -> None:
    with pytest.raises(InvalidOption, match=r"Make them alike with `input\.size`, a height and a width"):
        make_input([random_image(1, 4, 4), random_image(1, 4, 6)], ImageInput(resize=resize))


def test_three_means_do_not_fit_grey_images() -> None:
    with pytest.raises(InvalidOption, match=r"Give one value, or one a channel, as `input\.mean`"):
        make_input([random_image(1, 4, 4)], ImageInput(mean=(0.1, 0.2, 0.3)))


@pytest.mark.parametrize(
    ("options", "next_step"),
    [
        ({"size": (224,)}, "Give both, as in `input.size = [224, 224]`"),
        ({"size": (0, 224)}, "Give both, as in `input.size = [224, 224]`"),
        ({"size": (224, 224), "resize": 200}, "Give at least 224"),
        ({"resize": 0}, "Give at least 1"),
        ({"channels": 4}, "Give 1 (grey) or 3 (RGB)"),
        ({"mean": (float("nan"),)}, "Give numbers between 0 and 1"),
        ({"mean": (-0.1,)}, "is below 0, but pixels lie in 0..1. Give numbers between 0 and 1"),
        ({"std": (0.0,)}, "Give numbers above 0"),
        ({"std": (float("inf"),)}, "Give numbers above 0"),
        ({"mean": ()}, "Give one value, or one a channel, as `input.mean`"),
        ({"std": (0.1, 0.2)}, "Give one value, or one a channel, as `input.std`"),
        ({"channels": 1, "mean": (0.1, 0.2, 0.3)}, "Give one value, or one a channel, as `input.mean`"),
    ],
)
def test_a_wrong_option_is_refused(options: dict[str, object], next_step: str) -> None:
    with pytest.raises(InvalidOption, match=re.escape(next_step)):
        ImageInput(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("mean", "std", "next_step"),
    [
        ((72.93,), (90.015,), "give `input.mean = [0.286]` and `input.std = [0.353]`"),
        (
            (123.675, 116.28, 103.53),
            (58.395, 57.12, 57.375),
            "give `input.mean = [0.485, 0.456, 0.406]` and `input.std = [0.229, 0.224, 0.225]`",
        ),
        ((127.5,), (0.5,), "give `input.mean = [0.5]`"),  # the std is the default
        ((0.0,), (255.0,), "give `input.std = [1]`"),
        ((104.0, 117.0, 123.0), (1.0,), "and `input.std = [0.003922]`"),  # as Caffe's models have it
    ],
)
def test_a_mean_and_std_of_pixels_up_to_255_are_refused_with_those_of_pixels_up_to_1(
    mean: tuple[float, ...], std: tuple[float, ...], next_step: str
) -> None:
    with pytest.raises(InvalidOption, match=re.escape(next_step + ".")):
        ImageInput(mean=mean, std=std)


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
        ((0.0,), (1.0,)),
        ((0.0,), (1 / 255,)),  # a model that takes pixels from 0 to 255
        ((1.0,), (0.5,)),
    ],
)
def test_the_means_and_stds_of_published_models_are_taken(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    assert ImageInput(mean=mean, std=std).std == std


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_each_interpolation_is_that_of_pillow(interpolation: Interpolation) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    filters |= {"nearest": Image.Resampling.NEAREST, "lanczos": Image.Resampling.LANCZOS}
    expected = np.asarray(Image.fromarray(pixels).resize((6, 8), filters[interpolation])).astype(np.int64)

    image_CHW = torch.from_numpy(pixels.transpose(2, 0, 1).copy())
    images_BCHW = make_input([image_CHW], ImageInput(size=(8, 6), interpolation=interpolation, mean=(0,), std=(1,)))

    found = (images_BCHW[0] * 255).round().long().permute(1, 2, 0).numpy()
    assert (np.abs(found - expected) <= 1).mean() > 0.99


def test_without_antialias_fewer_pixels_count() -> None:
    image_CHW = torch.zeros(1, 9, 9, dtype=torch.uint8)
    image_CHW[0, 4, 4] = 255

    plain = make_input([image_CHW], ImageInput(size=(3, 3), antialias=False, mean=(0,), std=(1,)))

    assert plain[0, 0, 1, 1] == 1
    assert make_input([image_CHW], ImageInput(size=(3, 3), mean=(0,), std=(1,)))[0, 0, 1, 1] < 0.5
    with pytest.raises(InvalidOption, match=r"antialias: lanczos has no such choice"):
        ImageInput(interpolation="lanczos", antialias=False)


def test_interpolation_is_recorded_where_it_is_not_the_only_way_there_once_was() -> None:
    assert {"interpolation", "antialias"}.isdisjoint(options_by_name(ImageInput()))
    assert options_by_name(ImageInput(interpolation="bicubic"))["interpolation"] == "bicubic"


@pytest.mark.parametrize("shape", [(1, 3, 5, 4), (7, 1, 28, 28), (5, 3, 224, 224), (3, 3, 500, 700), (600, 1, 31, 33)])
def test_values_are_those_of_torchvision_however_many_images_are_normalised_at_a_time(shape: tuple[int, ...]) -> None:
    images_BCHW = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)) if shape[1] == 3 else ((0.1307,), (0.3081,))

    found = make_input(list(images_BCHW), ImageInput(mean=mean, std=std))

    scaled_BCHW = functional.to_dtype(images_BCHW, torch.float32, scale=True)
    assert torch.equal(found, functional.normalize(scaled_BCHW, list(mean), list(std)))
    assert found.is_contiguous()

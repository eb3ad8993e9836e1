import warnings

import pytest

from softlab.errors import PublishedInput
from softlab.modalities.images.inputs import ImageInput
from softlab.modalities.images.known_inputs import known_input
from softlab.models.build import ModelOptions
from softlab.recipes.published_input import input_of

RESNET = ModelOptions(model="torchvision:resnet18")
OWN_CLASSES = ModelOptions(model="torchvision:resnet18", arguments={"num_classes": 5})
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def test_a_known_model_takes_its_published_input_and_says_so() -> None:
    with pytest.warns(PublishedInput, match=r"input of torchvision:resnet18 as it was published: size 224 x 224, .*"):
        found = input_of(RESNET, ImageInput())

    assert found == known_input("torchvision:resnet18")


@pytest.mark.parametrize(("model", "given"), [(RESNET, ImageInput(size=(64, 64))), (OWN_CLASSES, ImageInput())])
def test_another_mean_is_taken_and_the_published_one_told(model: ModelOptions, given: ImageInput) -> None:
    with pytest.warns(PublishedInput, match=r"with another mean and std than .*: .* mean 0\.485, 0\.456, 0\.406"):
        assert input_of(model, given) is given


@pytest.mark.parametrize(
    ("model", "given"),
    [
        (RESNET, ImageInput(size=(64, 64), **IMAGENET)),  # type: ignore[arg-type]
        (ModelOptions(model="softlab:grey_resnet"), ImageInput()),
    ],
)
def test_nothing_is_said_where_there_is_nothing_to_say(model: ModelOptions, given: ImageInput) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        assert input_of(model, given) is given


@pytest.mark.parametrize(
    ("name", "size", "resize", "interpolation"),
    [
        ("torchvision:resnet50", 224, 232, "bilinear"),
        ("torchvision:efficientnet_b0", 224, 256, "bicubic"),
        ("timm:deit_tiny_patch16_224", 224, 248, "bicubic"),  # crop_pct 0.9, rounded down as timm does
    ],
)
def test_a_published_input_has_its_crop_and_interpolation(
    name: str, size: int, resize: int, interpolation: str
) -> None:
    if name.startswith("timm"):
        pytest.importorskip("timm")

    known = known_input(name)

    assert known is not None
    assert (known.size, known.resize, known.interpolation) == ((size, size), resize, interpolation)


def test_the_key_that_is_named_is_that_of_the_model() -> None:
    with pytest.warns(PublishedInput, match=r"say `student\.small\.input\.mean`"):
        input_of(ModelOptions(model="torchvision:resnet18"), ImageInput(), key="student.small.input")

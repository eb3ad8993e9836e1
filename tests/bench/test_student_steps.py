from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from softlab.bench.student_steps import StudentSteps, find_layer
from softlab.loading.batch import Batch
from softlab.modalities.images.inputs import ImageInput
from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.modalities.inputs import Inputs
from softlab.store.reader import Store
from tests.modalities.images.batches import images_in
from tests.student import pictures
from tests.student.pictures import make_student

IMAGES = Inputs(positional=(torch.zeros(2, 3, 4, 6),))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store of augmented views."""
    views = ViewRecipe(transforms=("RandomHorizontalFlip()",))
    return pictures.make_store(tmp_path_factory.mktemp("taught") / "views", k=3, views=2, augment=views)


def make_steps(store: Store) -> StudentSteps:
    return StudentSteps(
        "small",
        pictures.make_student(),
        pictures.pictures(),
        store,
        pictures.make_options(),
        input=ImageInput(),
        turn_s=0.001,
    )


def test_all_ways_see_the_same_images(store: Store) -> None:
    seen: list[list[Batch]] = []
    steps = make_steps(store)

    for _ in range(2):
        seen.append([])
        steps.hard(beside=seen[-1].append)()
    stored = steps.stored()
    batches = list(stored._loader.load(stored._rows))

    assert len(seen[0]) >= 4
    for first, again, with_labels in zip(*seen, batches, strict=True):
        assert torch.equal(images_in(first), images_in(again))
        assert torch.equal(images_in(first), images_in(with_labels))
        assert first.labels is None
        assert with_labels.labels is not None


def test_a_turn_counts_the_samples_of_its_steps(store: Store) -> None:
    sizes: list[int] = []
    steps = make_steps(store)

    counted = steps.hard(beside=lambda batch: sizes.append(len(batch)))()

    assert counted == sum(sizes) > 0
    assert np.unique(sizes).tolist() == [8]


# The layer that learns a feature.


class Tokens(nn.Module):
    """Six positions of three numbers, then the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(12, 8)
        self.head = nn.Linear(8, 5)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        logits: Tensor = self.head(self.mix(images_BCHW.flatten(2).transpose(1, 2).reshape(-1, 6, 12)).mean(dim=1))
        return logits


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((7,), "dropout"),  # the last vector before the logits
        ((9, 4, 6), "relu"),  # the last map
        ((9, 2, 2), "relu"),  # of other positions: maps are averaged down
        ((5, 9), None),
        ((2, 2, 2, 2), None),
    ],
)
def test_the_layer_is_the_last_one_with_as_many_axes(shape: tuple[int, ...], expected: str | None) -> None:
    assert find_layer(make_student(), IMAGES, feature_shape=shape) == expected


def test_a_map_of_the_features_own_size_is_preferred() -> None:
    module = nn.Sequential(
        OrderedDict(
            [
                ("conv", nn.Conv2d(3, 4, 1)),
                ("small", nn.AvgPool2d(2)),
                ("flat", nn.Flatten()),
                ("head", nn.Linear(24, 5)),
            ]
        )
    )

    assert find_layer(module, IMAGES, feature_shape=(8, 4, 6)) == "conv"
    assert find_layer(module, IMAGES, feature_shape=(8, 2, 3)) == "small"


def test_tokens_need_the_same_positions() -> None:
    assert find_layer(Tokens(), IMAGES, feature_shape=(6, 4)) == "mix"
    assert find_layer(Tokens(), IMAGES, feature_shape=(5, 4)) is None


def test_a_model_of_one_layer_has_none() -> None:
    assert find_layer(nn.Sequential(nn.Flatten()), IMAGES, feature_shape=(4,)) is None
    assert find_layer(nn.Flatten(), IMAGES, feature_shape=(4,)) is None

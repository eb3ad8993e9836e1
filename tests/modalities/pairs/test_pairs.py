"""Pairs of an image and a text: how they are decoded, what views they have, and what models are given."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
import torch

from softlab.errors import InvalidOption
from softlab.manifest import ViewsRecord
from softlab.modalities.images.modality import MODALITY as IMAGES
from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.modalities.modality import LOOKED_AT, InputOptions, Modality
from softlab.modalities.pairs.inputs import PairInput
from softlab.modalities.pairs.modality import MODALITY
from softlab.modalities.pairs.views import PairViews
from softlab.modalities.text.modality import MODALITY as TEXT
from softlab.modalities.text.tokenizer import train_tokenizer
from softlab.modalities.views import record_views
from softlab.sources.source import Raw
from softlab.testing.modalities import ModalityContract, make_views
from tests.modalities.pairs.made import CAPTIONS, fields, picture

ALL_TEXTS = [text for texts in CAPTIONS for text in texts]
TRAINED = PairInput(size=(8, 8), tokenizer="train:60", trained=train_tokenizer(ALL_TEXTS, vocab_size=60))


class TestPairs(ModalityContract):
    @pytest.fixture
    def modality(self) -> Modality:
        return MODALITY

    @pytest.fixture
    def raws(self) -> Sequence[Any]:
        return fields()

    @pytest.fixture
    def inputs(self) -> Sequence[InputOptions]:
        return [TRAINED, PairInput(size=(4, 6), channels=1, tokenizer=TRAINED.tokenizer, trained=TRAINED.trained)]


class TestPairsWithRandomViews(TestPairs):
    @pytest.fixture
    def record(self) -> ViewsRecord:
        views = PairViews(transforms=("RandomCrop(6)", "RandomHorizontalFlip()"), captions=True, seed=5)
        return record_views(views, num_views=3, digest_every=1)


def test_a_model_is_given_what_models_of_either_half_are() -> None:
    pairs = [MODALITY.decode(each) for each in fields()]

    found = MODALITY.collate(pairs, TRAINED).inputs.named

    images = IMAGES.collate([pair.image for pair in pairs], TRAINED.image).inputs.positional[0]
    texts = TEXT.collate([{"": texts[0]} for texts in CAPTIONS], TRAINED.text).inputs.named
    assert found["image"].equal(images)
    assert list(found) == ["image", "input_ids", "attention_mask"]
    assert all(found[name].equal(texts[name]) for name in texts)


def test_view_v_has_caption_v_of_those_that_there_are() -> None:
    record = record_views(PairViews(captions=True), num_views=4, digest_every=1)
    rows = [(index, view) for index in range(len(CAPTIONS)) for view in range(4)]

    views = list(make_views(MODALITY, [MODALITY.decode(each) for each in fields()], record, rows))

    expected = [CAPTIONS[index][view % len(CAPTIONS[index])] for index, view in rows]
    assert [view.example.text for view in views] == expected


def test_views_without_captions_have_the_first_one_and_the_images_of_the_recipe() -> None:
    flips = ("RandomHorizontalFlip()",)
    record = record_views(PairViews(transforms=flips, seed=3), num_views=2, digest_every=1)
    of_images = record_views(ViewRecipe(transforms=flips, seed=3), num_views=2, digest_every=1)
    pairs, rows = [MODALITY.decode(each) for each in fields()], [(index, view) for index in range(6) for view in (0, 1)]

    views = list(make_views(MODALITY, pairs, record, rows))

    images = list(make_views(IMAGES, [pair.image for pair in pairs], of_images, rows))
    assert all(view.example.image.equal(image.example) for view, image in zip(views, images, strict=True))
    assert [view.example.text for view in views] == [CAPTIONS[index][0] for index, _ in rows]


def test_the_tokenizer_is_trained_on_all_captions() -> None:
    settled, note = MODALITY.settle_input(PairInput(tokenizer="train:60"), fields())

    assert settled.trained == TRAINED.trained
    assert settled.identity
    assert settled.max_length == 512
    assert note == ""
    assert MODALITY.model_arguments(settled)["vocab_size"] == 60


def test_of_very_many_pairs_few_images_are_in_memory_and_they_are_from_all_over() -> None:
    held = 0
    grey, colour = picture(0, mode="L"), picture(1)

    class Image(bytes):
        def __new__(cls, data: bytes) -> "Image":
            nonlocal held
            held += 1
            return super().__new__(cls, data)

        def __del__(self) -> None:
            nonlocal held
            held -= 1

    most = 0

    def pairs() -> Iterator[Mapping[str, Raw]]:
        nonlocal most
        for number in range(2_000):
            most = max(most, held)
            yield {"image": Image(grey if number < 1_500 else colour), "text": CAPTIONS[number % 6]}

    settled, note = MODALITY.settle_input(PairInput(tokenizer="train:60"), pairs())

    assert most <= 2 * LOOKED_AT + 2
    assert settled.channels == 3, "the last quarter are RGB"
    assert "grey" in note


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ({"image": b"no image", "text": "a cat"}, r"its field 'image': "),
        ({"text": None}, r"its field 'text': it isn't text"),
        ({"text": ()}, r"its field 'text': it holds no caption"),
        ({"text": ("a cat", "  ")}, r"its field 'text': its text is empty"),
    ],
)
def test_a_pair_with_one_half_missing_names_the_half(raw: Mapping[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        MODALITY.decode({**fields()[0], **raw})


def test_a_source_without_one_of_the_fields_is_refused() -> None:
    only: Mapping[str, Raw] = {"image": b"", "caption": "a cat"}

    with pytest.raises(InvalidOption, match=r"has no field 'text' \(it has image, caption\).*`source.fields.text`"):
        MODALITY.pick(only, where="pairs.parquet")


def test_options_of_either_half_are_checked() -> None:
    with pytest.raises(InvalidOption, match="isn't a height and a width"):
        PairInput(size=(3,))
    with pytest.raises(InvalidOption, match="lets no token in"):
        PairInput(max_length=0)
    with pytest.raises(InvalidOption, match="Crop"):
        PairViews(transforms=("Crop()",))


def test_mixed_views_are_refused() -> None:
    mixed = record_views(ViewRecipe(mixup=0.5), num_views=1, digest_every=1)

    with pytest.raises(InvalidOption, match="texts aren't mixed"):
        MODALITY.replay(mixed, num_samples=4)


def test_the_digest_is_of_the_caption_that_a_view_has() -> None:
    record = record_views(PairViews(captions=True), num_views=2, digest_every=1)
    pair = MODALITY.decode(fields()[0])

    first, second = make_views(MODALITY, [pair], record, [(0, 0), (0, 1)])

    assert torch.equal(first.example.image, second.example.image)
    assert MODALITY.digest(first.example) != MODALITY.digest(second.example)

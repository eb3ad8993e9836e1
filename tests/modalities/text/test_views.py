import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import softlab
from softlab.errors import InvalidOption, StoreMismatch
from softlab.manifest import MixingRecord, TransformRecord, ViewsRecord
from softlab.modalities.modality import Modality, settle_input
from softlab.modalities.text.inputs import TextInput
from softlab.modalities.text.modality import MODALITY
from softlab.modalities.text.views import TextViews
from softlab.modalities.views import describe_views, record_views
from softlab.models.build import ModelOptions, build_model
from softlab.sources.source import Raw
from softlab.testing.modalities import ModalityContract
from tests.modalities.text.berts import save_bert
from tests.modalities.text.reviews import TEXTS, write_reviews
from tests.student.flat_options import train_options

LONG = " ".join(f"word{number}" for number in range(2000))
CPU = softlab.DeviceOptions(name="cpu")


class TestTextWithRandomViews(ModalityContract):
    @pytest.fixture
    def modality(self) -> Modality:
        return MODALITY

    @pytest.fixture
    def raws(self) -> Sequence[Raw]:
        return [*TEXTS[:5], "h\u00e4\u00dflich, und zwar sehr".encode()]

    @pytest.fixture
    def record(self) -> ViewsRecord:
        return record_views(TextViews(drop=0.2, mask=0.3), num_views=3, digest_every=0)

    @pytest.fixture
    def inputs(self, tmp_path: Path) -> Sequence[Any]:
        return [TextInput(tokenizer=str(save_bert(tmp_path)))]


def view_of(text: str, views: TextViews, *, index: int = 0, view: int = 0, name: str = "") -> str:
    replay = MODALITY.replay(record_views(views, num_views=8, digest_every=0), num_samples=10)
    found: str = replay.views([index], [view], lambda _: {name: text})[0].example[name]
    return found


def test_words_are_left_out_with_the_probability_that_is_given() -> None:
    left = view_of(LONG, TextViews(drop=0.2)).split()

    assert len(left) == pytest.approx(1600, abs=80)
    assert [word for word in LONG.split() if word in set(left)] == left


def test_words_are_masked_with_the_probability_that_is_given_of_those_left() -> None:
    counts = Counter(view_of(LONG, TextViews(drop=0.5, mask=0.3, mask_word="<mask>")).split())

    assert counts.pop("<mask>") == pytest.approx(300, abs=60)
    assert sum(counts.values()) == pytest.approx(700, abs=80)


@given(
    text=st.text(min_size=1).filter(str.strip),
    seed=st.integers(0, 2**63 - 1),
    view=st.integers(0, 7),
    share=st.floats(0.01, 0.99),
)
def test_a_view_is_a_function_of_seed_view_and_sample_whatever_the_field_is_called(
    text: str, seed: int, view: int, share: float
) -> None:
    views = TextViews(drop=share, seed=seed)

    found = view_of(text, views, view=view)

    assert found == view_of(text, views, view=view, name="text")
    assert found.strip()
    letters, kept = (re.sub(r"\s", "", each) for each in (text, found))
    assert kept == letters or len(kept) < len(letters)


def test_seeds_views_samples_and_texts_differ_in_what_is_drawn() -> None:
    views = TextViews(drop=0.5)
    others = [
        view_of(LONG, views),
        view_of(LONG, TextViews(drop=0.5, seed=1)),
        view_of(LONG, views, view=1),
        view_of(LONG, views, index=1),
    ]
    kept = [set(text.split()) for text in [*others, view_of(LONG + " .", views)]]

    for number, first in enumerate(kept):
        for second in kept[:number]:
            assert len(first & second) == pytest.approx(500, abs=80)


def test_what_is_drawn_is_what_it_has_always_been() -> None:
    views = TextViews(drop=0.3, mask=0.3, seed=5)

    found = [view_of("one two  three\nfour five", views, view=view) for view in range(3)]

    assert found == ["one two  three\nfour ", "[MASK] four five", "three\nfour "]


def test_white_space_stays_with_its_word_and_letters_without_it_are_words_of_their_own() -> None:
    masked = view_of("\n a\t\u5c0f\u8bf4\u597d  b", TextViews(mask=0.99))

    assert masked == "\n [MASK]\t[MASK][MASK][MASK]  [MASK]"


def test_one_word_stays() -> None:
    assert all(view_of("one two", TextViews(drop=0.99), view=view).strip() in ("one", "two") for view in range(8))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"drop": 1.0}, r"augment\.drop = 1\.0: expected 0 to below 1"),
        ({"mask": -0.1}, r"augment\.mask = -0\.1: expected 0 to below 1"),
        ({"mask": float("nan")}, r"augment\.mask = nan"),
        ({"mask_word": "a mask"}, r"augment\.mask_word = 'a mask': expected 1 to 64 letters without white space"),
        ({"mask_word": ""}, r"augment\.mask_word = ''"),
        ({"seed": -1}, r"augment\.seed = -1"),
    ],
)
def test_what_cannot_be_drawn_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        TextViews(**options)


@pytest.mark.parametrize(
    "record",
    [
        TransformRecord(name="RandomHorizontalFlip", arguments={"p": 0.5}),
        TransformRecord(name="DropWords", arguments={"p": 2}),
        TransformRecord(name="DropWords", arguments={"p": "0.5"}),
        TransformRecord(name="DropWords", arguments={"p": 0.5, "word": "a"}),
        TransformRecord(name="MaskWords", arguments={"p": 0.5, "word": "a b"}),
        TransformRecord(name="MaskWords", arguments={"p": 0.5}),
    ],
)
def test_views_that_are_not_those_of_texts_are_refused(record: TransformRecord) -> None:
    with pytest.raises(InvalidOption, match="texts have no such views"):
        MODALITY.replay(ViewsRecord(num_views=2, transforms=(record,)), num_samples=4)


def test_mixed_texts_are_refused() -> None:
    mixing = MixingRecord(mixup=1.0, cutmix=None, cutmix_share=0.5, share=1.0)

    with pytest.raises(InvalidOption, match="texts have no such views"):
        MODALITY.replay(ViewsRecord(num_views=2, mixing=mixing), num_samples=4)


def test_there_are_none_by_default_and_a_line_tells_them() -> None:
    assert not TextViews().is_random
    (view,) = MODALITY.replay(ViewsRecord(num_views=1), num_samples=4).views([2], [0], lambda index: {"": "a b"})
    assert view.example == {"": "a b"}
    record = record_views(TextViews(drop=0.1, mask=0.2, seed=3), num_views=2, digest_every=0)
    assert describe_views(record) == "DropWords(p=0.1), MaskWords(p=0.2, word='[MASK]') (seed 3)"


def test_students_see_the_words_that_the_teacher_saw(tmp_path: Path) -> None:
    bert = save_bert(tmp_path / "bert")
    source = softlab.open_source(write_reviews(tmp_path / "reviews.parquet"), modality="text")
    module = build_model(ModelOptions(model=f"hf:{bert}"))
    teacher = softlab.Teacher(module=module, name="bert", arguments={}, input=TextInput(tokenizer=str(bert)))
    augment = TextViews(drop=0.2, mask=0.2)
    dump = softlab.DumpOptions(views=3, pixel_digests="all", device=CPU, coding="float32")

    softlab.dump_teacher(teacher, source, tmp_path / "store", dump, augment=augment)

    store = softlab.open_store(tmp_path / "store")
    assert [len(store.read_pixel_digests(view).within(0, len(TEXTS))) for view in range(3)] == [len(TEXTS)] * 3
    labels, replay = store.read(range(len(TEXTS)), view=2), MODALITY.replay(store.manifest.views, num_samples=36)
    seen = [view.example for view in replay.views([7], [2], lambda index: {"": TEXTS[index]})]
    with torch.inference_mode():
        logits_C = module.eval()(**MODALITY.collate(seen, TextInput(tokenizer=str(bert))).inputs.named).logits[0]
    assert int(labels.class_ids_BK[7, 0]) == int(logits_C.argmax())
    gap = float(logits_C.max() - logits_C.min())
    assert float(labels.logits_BK[7, 0] - labels.logits_BK[7, 1]) == pytest.approx(gap, abs=1e-5)
    input = settle_input(TextInput(tokenizer="train:120"), source)
    options = train_options(epochs=3, batch_size=12, device="cpu", track=())
    student = build_model(ModelOptions(model="softlab:text_bag"), told=MODALITY.model_arguments(input))
    (result,) = softlab.train_students({"bag": student}, source, [store], options, input=input)
    assert result.error is None
    with pytest.raises(StoreMismatch, match=r"the teacher saw other views: DropWords\(p=0.2\)"):
        softlab.train_students({"bag": student}, source, [store], options, input=input, augment=TextViews(drop=0.1))


def test_several_views_of_a_text_share_a_batch_of_texts_of_similar_length(tmp_path: Path) -> None:
    source = softlab.open_source(write_reviews(tmp_path / "reviews.parquet"), modality="text")
    input, augment = settle_input(TextInput(tokenizer="train:120"), source), TextViews(drop=0.4)
    student = build_model(ModelOptions(model="softlab:text_bag"), told=MODALITY.model_arguments(input))
    seen: list[list[list[int]]] = []

    def see(module: Any, args: Any, named: dict[str, Any]) -> None:
        if module.training:
            lengths = named["attention_mask"].sum(dim=1).tolist()
            seen.append([ids[:length] for ids, length in zip(named["input_ids"].tolist(), lengths, strict=True)])

    student.register_forward_pre_hook(see, with_kwargs=True)
    run = {"epochs": 3, "batch_size": 12, "views_per_image": 3, "batch_by_length": True}
    options = train_options(device="cpu", track=(), **run)

    softlab.train_students({"bag": student}, source, [], options, input=input, augment=augment)

    replay = MODALITY.replay(record_views(augment, num_views=1, digest_every=0), num_samples=len(TEXTS))
    expected = set()
    for sample in range(len(TEXTS)):
        views = replay.views([sample] * 3, [0, 1, 2], lambda index: {"": TEXTS[index]})
        named = MODALITY.collate([each.example for each in views], input).inputs.named
        lengths = named["attention_mask"].sum(dim=1).tolist()
        expected.add(tuple(tuple(row[:n]) for row, n in zip(named["input_ids"].tolist(), lengths, strict=True)))
    found = [tuple(map(tuple, batch[first : first + 3])) for batch in seen for first in range(0, 12, 3)]
    assert len(seen) == 9, "three epochs of three steps"
    assert set(found) == expected
    assert len(found) == len(TEXTS)

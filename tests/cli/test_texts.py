"""Texts from the outside: a transformer teaches students with tokenizers of their own, and what is refused."""

import csv
import json
from pathlib import Path

import pytest
import safetensors
import torch
from safetensors.torch import load_file

from softlab.store.reader import open_store
from tests.cli.program import Answer, Softlab, assert_refused, open_uncached
from tests.modalities.text.berts import save_bert
from tests.modalities.text.reviews import LABELS, TEXTS, save_tokenizer, word_tokenizer, write_reviews

RECIPE = """
[input]
modality = "text"

[source]
path = "{source}"
fields = {{text = "review"}}
class_names = ["good", "bad"]

[device]
name = "cpu"
"""
STUDENTS = """
[run]
epochs = 2
batch_size = 12
[log]
track = []
[student.lstm]
model = "softlab:text_lstm"
arguments = {width = 16}
input = {tokenizer = "train:120"}
[student.small]
model = "softlab:text_transformer"
arguments = {width = 16, num_heads = 2}
"""
NAMED = [["good", "bad"][label] for label in LABELS]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Of reviews in a Parquet file; labels are the names of classes."""
    write_reviews(tmp_path / "reviews.parquet", labels=NAMED)
    (tmp_path / "text.toml").write_text(RECIPE.format(source=tmp_path / "reviews.parquet"))
    return tmp_path / "text.toml"


def dumped(softlab: Softlab, recipe: Path, bert: Path, *more: object, out: str = "store") -> Answer:
    return softlab("dump-teacher", recipe, "--teacher", f"hf:{bert}", "--out", recipe.with_name(out), *more)


def test_a_bert_teaches_students_with_tokenizers_of_their_own(softlab: Softlab, recipe: Path, bert: Path) -> None:
    answer = dumped(softlab, recipe, bert, "--coding", "float32")

    assert (answer.code, answer.err) == (0, "")
    assert answer.facts()["cut off"] == "0 of 36 samples were longer than the teacher's input"
    manifest = open_uncached(recipe.with_name("store")).manifest
    (used,) = manifest.inputs
    assert (used.field, used.modality, used.options["tokenizer"]) == ("text", "text", str(bert))
    assert (len(used.options["identity"]), used.options["max_length"]) == (64, 24)
    assert manifest.classes[0].label_space.class_names == ("good", "bad")

    recipe.with_name("train.toml").write_text(recipe.read_text() + STUDENTS)
    train = ("train-student", recipe.with_name("train.toml"), "--store", recipe.with_name("store"))
    own = ("--set", f"student.small.input.tokenizer={bert}", "--out", recipe.with_name("run"))
    assert (trained := softlab(*train, *own)).code == 0, trained
    assert (again := softlab(*train, *own)).code == 0, again  # it is finished: the same tokenizer is trained again

    for name, model in [("lstm", "text_lstm"), ("small", "text_transformer")]:
        arguments = "{width = 16, num_heads = 2}" if name == "small" else "{width = 16}"
        weights = recipe.with_name("run") / name / "last.safetensors"
        measured = softlab(
            *("evaluate", recipe, "--model", f"softlab:{model}", "--weights", weights, "--json"),
            *("--set", f"model.arguments={arguments}", "--store", recipe.with_name("store")),
        )
        assert measured.code == 0, measured
        found = json.loads(measured.out)["values"]
        assert {"accuracy", "class_f1", "matthews", "teacher_agreement", "teacher_kl"} <= found.keys()


def test_a_table_of_commas_is_read_too(
    softlab: Softlab, recipe: Path, bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(recipe.with_name("cache")))
    with recipe.with_name("reviews.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("review", "label"), *zip(TEXTS, NAMED, strict=True)])

    answer = dumped(softlab, recipe, bert, "--source", f"datasets:csv:{recipe.with_name('reviews.csv')}")

    assert answer.code == 0, answer
    assert len(open_store(recipe.with_name("store")).read_samples().keys) == len(TEXTS)


@pytest.mark.filterwarnings("always")
def test_texts_that_were_cut_off_are_told_before_and_after(softlab: Softlab, recipe: Path, bert: Path) -> None:
    answer = dumped(softlab, recipe, bert, "--set", "input.max_length=5")

    assert answer.code == 0
    assert "24 of 36 texts that were looked at are longer than 5 tokens, and lose their end" in answer.err
    tokens = [2 + len(text.split()) for text in TEXTS]
    lost = sum(max(count - 5, 0) for count in tokens)
    assert answer.facts()["cut off"] == (
        f"24 of 36 samples were longer than the teacher's input, which let in all but {lost} of {sum(tokens)} tokens "
        f"({lost / sum(tokens):.1%})"
    )
    inspected = softlab("inspect", recipe.with_name("store"))
    assert inspected.facts()["cut off"] == answer.facts()["cut off"]


def test_a_teacher_of_other_class_names_is_refused(softlab: Softlab, recipe: Path, tmp_path: Path) -> None:
    other = save_bert(tmp_path / "other", names=("fine", "awful"))

    assert_refused(dumped(softlab, recipe, other), "fine, awful")


def test_a_teacher_with_more_classes_than_the_labels_is_refused_by_its_names(
    softlab: Softlab, recipe: Path, tmp_path: Path
) -> None:
    other = save_bert(tmp_path / "other", names=("good", "fair", "poor"))

    assert_refused(dumped(softlab, recipe, other), "'bad'")


@pytest.mark.filterwarnings("always")
def test_labels_of_more_classes_than_an_unnamed_head_has_are_left_aside_and_told(
    softlab: Softlab, tmp_path: Path
) -> None:
    unnamed = save_bert(tmp_path / "bert", names=None)
    write_reviews(tmp_path / "reviews.parquet", labels=[number % 3 for number in range(len(TEXTS))])
    recipe = tmp_path / "text.toml"
    recipe.write_text(RECIPE.format(source=tmp_path / "reviews.parquet").replace('class_names = ["good", "bad"]', ""))

    answer = dumped(softlab, recipe, unnamed)

    assert answer.code == 0
    assert "labels of other classes" in answer.err
    assert answer.facts()["teacher accuracy"].startswith("-")


@pytest.mark.filterwarnings("always")
def test_a_text_that_is_not_utf_8_or_empty_is_named_and_can_be_left_out(
    softlab: Softlab, recipe: Path, bert: Path
) -> None:
    texts: list[bytes] = [text.encode() for text in TEXTS]
    texts[5], texts[8] = b"caf\xe9", b" "
    write_reviews(recipe.with_name("reviews.parquet"), texts=texts, labels=NAMED)

    assert_refused(dumped(softlab, recipe, bert), "sample '05' can't be read: ", "0xe9")
    answer = dumped(softlab, recipe, bert, "--skip-unreadable", out="readable")

    assert answer.code == 0
    assert answer.facts()["rows"] == "34 (2 samples skipped)"


def test_a_dump_does_not_go_on_with_another_tokenizer(softlab: Softlab, recipe: Path, tmp_path: Path) -> None:
    own = save_bert(tmp_path / "own")
    assert dumped(softlab, recipe, own).code == 0
    tokenizer = word_tokenizer()
    tokenizer.add_tokens(["lovely film"])
    save_tokenizer(own, tokenizer)

    assert_refused(dumped(softlab, recipe, own), f"tokenizer {own}: has changed")


def test_weights_know_the_tokenizer_that_was_trained_for_them(softlab: Softlab, recipe: Path) -> None:
    recipe.with_name("teacher.toml").write_text(
        recipe.read_text().replace('modality = "text"', 'modality = "text"\ntokenizer = "train:120"')
        + '[teacher]\nmodel = "softlab:text_bag"\n[log]\ntrack = []\n'
    )
    run = ("train-teacher", recipe.with_name("teacher.toml"), "--out", recipe.with_name("run"), "--epochs", "1")
    assert (answer := softlab(*run)).code == 0, answer
    weights = next(recipe.with_name("run").rglob("last.safetensors"))

    teacher = ("--teacher", "softlab:text_bag", "--weights", weights, "--out", recipe.with_name("store"))
    answer = softlab("dump-teacher", recipe, *teacher)

    assert (answer.code, answer.err) == (0, "")
    with safetensors.safe_open(weights, framework="pt") as file:
        assert '"tokenizer":"train:120"' in file.metadata()["softlab.about"]
    assert_refused(
        softlab("dump-teacher", recipe, *teacher, "--set", "input.tokenizer=train:99"),
        "the weights were trained with train:120",
    )


SMALLER = """
[log]
track = []
[teacher]
model = "hf:{bert}"
[valid]
path = "{source}"
fields = {{text = "review"}}
class_names = ["good", "bad"]
[student.half]
model = "hf:{half}"
[student.half.input]
tokenizer = "{bert}"
same_tokenizer = true
[student.half.inherit]
map = {{"bert.embeddings" = "bert.embeddings", "bert.encoder.layer.{{i}}" = "bert.encoder.layer.{{i}}"}}
every = 2
strict = false
"""


@pytest.mark.filterwarnings("always")
def test_a_smaller_bert_starts_from_layers_of_its_teacher_and_is_measured_against_it(
    softlab: Softlab, recipe: Path, bert: Path, tmp_path: Path
) -> None:
    half = save_bert(tmp_path / "half", seed=1, num_hidden_layers=1)
    assert dumped(softlab, recipe, bert).code == 0
    text = SMALLER.format(bert=bert, half=half, source=recipe.with_name("reviews.parquet"))
    recipe.with_name("train.toml").write_text(recipe.read_text() + text)

    answer = softlab(
        *("train-student", recipe.with_name("train.toml"), "--store", recipe.with_name("store"), "--epochs", "1"),
        *("--out", recipe.with_name("run"), "--set", f"valid_full={recipe.with_name('full')}", "--batch-size", "12"),
        *("--learning-rate", "1e-9"),
    )

    assert answer.code == 0, answer
    name = "bert.encoder.layer.0.attention.self.query.weight"
    trained, theirs, before = (
        load_file(path)[name]
        for path in (
            recipe.with_name("run") / "half/last.safetensors",
            bert / "model.safetensors",
            half / "model.safetensors",
        )
    )
    torch.testing.assert_close(trained, theirs)
    assert not torch.allclose(trained, before)
    (result,) = json.loads((recipe.with_name("run") / "summary.json").read_text())
    assert "teacher_kl" in result["last"]["values"]

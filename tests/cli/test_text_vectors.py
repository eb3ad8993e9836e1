"""Vectors of texts from the outside: an encoder teaches students that give one vector a text."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch.testing import assert_close

from softlab.store.reader import open_store
from tests.cli.program import Softlab, assert_refused
from tests.modalities.text.berts import save_bert
from tests.modalities.text.reviews import write_reviews

RECIPE = """
[input]
modality = "text"

[source]
path = "{source}"
fields = {{text = "review"}}

[device]
name = "cpu"
"""
STUDENTS = """
[teachers]
alpha = 1.0
[run]
epochs = 2
batch_size = 12
[log]
track = []
[student.bag]
model = "softlab:text_bag"
arguments = {width = 16, num_classes = 16}
input = {tokenizer = "train:120"}
loss = {name = "vector_mse"}
[student.lstm]
model = "softlab:text_lstm"
arguments = {width = 16, num_classes = 16}
input = {tokenizer = "train:120"}
loss = {name = "cosine", prefixes = [4, 8]}
[student.small]
model = "softlab:text_transformer"
arguments = {width = 16, num_heads = 2, num_classes = 6}
input = {tokenizer = "train:90"}
loss = {name = "similarity_kl"}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    write_reviews(tmp_path / "reviews.parquet")
    (tmp_path / "text.toml").write_text(RECIPE.format(source=tmp_path / "reviews.parquet"))
    return tmp_path / "text.toml"


@pytest.fixture
def store(softlab: Softlab, recipe: Path) -> Path:
    bert, out = save_bert(recipe.with_name("bert")), recipe.with_name("store")
    answer = softlab(
        *("dump-teacher", recipe, "--teacher", f"hf:{bert}", "--out", out, "--output", "embedding:values"),
        *("--set", "teacher.arguments={task = 'embedding', normalize = true}", "--set", "dump.values_coding=float32"),
    )
    assert (answer.code, answer.err) == (0, "")
    return out


def test_students_with_their_own_tokenizers_learn_an_encoders_vectors(
    softlab: Softlab, recipe: Path, store: Path
) -> None:
    vectors = open_store(store).read_features("embedding", [0, 1])
    assert vectors.shape == (2, 16)
    assert_close(vectors.norm(dim=1).tolist(), [1.0, 1.0], atol=1e-5, rtol=0)
    recipe.with_name("train.toml").write_text(recipe.read_text() + STUDENTS)

    trained = softlab(
        "train-student", recipe.with_name("train.toml"), "--store", store, "--out", recipe.with_name("run")
    )

    assert trained.code == 0, trained
    weights = recipe.with_name("run") / "small" / "last.safetensors"
    assert load_file(weights)["classifier.weight"].shape == (6, 16)
    measured = softlab(
        *("evaluate", recipe, "--model", "softlab:text_transformer", "--weights", weights, "--json"),
        *("--set", "model.arguments={width = 16, num_heads = 2, num_classes = 6}"),
        *("--store", store, "--output", "embedding"),
    )
    assert measured.code == 0, measured
    assert {"teacher_overlap", "neighbour_accuracy"} <= json.loads(measured.out)["values"].keys()


def test_a_width_other_than_the_stores_is_refused_where_nothing_is_projected(
    softlab: Softlab, recipe: Path, store: Path
) -> None:
    answer = softlab(
        *("train-student", recipe, "--store", store, "--out", recipe.with_name("run"), "--alpha", "1"),
        *("--student", "softlab:text_bag", "--set", "student.text_bag.arguments.num_classes=6"),
        *("--set", "input.tokenizer=train:120", "--loss", "vector_mse", "--set", "loss.projector=none"),
    )

    assert_refused(answer, "gives [6] for a sample, and what is stored is [16]")

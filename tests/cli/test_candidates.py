"""Rankings from the outside: a cross-encoder's scores of candidates teach students that compare vectors."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from softlab.store.reader import open_store
from tests.cli.program import Softlab, assert_refused
from tests.modalities.text.berts import save_bert
from tests.modalities.text.queries import CANDIDATES, write_queries, write_triples

RECIPE = """
[source]
path = "{folder}/queries.parquet"
fields = {{ query = "query", candidates = "candidates", relevance = "relevance" }}

[input]
modality = "text"
field = "query"
candidate_fields = ["candidates"]
{input}

[device]
name = "cpu"
"""
TRIPLES = """
[source]
path = "{folder}/triples.parquet"
fields = {{ query = "query", positive = "positive", negative = "negative" }}

[input]
modality = "text"
field = "query"
candidate_fields = ["positive", "negative"]
"""
TEACHER = """
out = "{folder}/store"

[teacher]
model = "hf:{folder}/bert"
arguments = {{ task = "ranking" }}

[dump]
output = ["scores:classes"]
valid = true
coding = "float32"
"""
STUDENTS = """
out = "{folder}/run"
store = ["{folder}/store"]

[valid]
path = "{folder}/queries.parquet"
fields = {{ query = "query", candidates = "candidates", relevance = "relevance" }}

[student.bag]
model = "softlab:text_bag"
arguments = {{ width = 16, num_classes = 8 }}

[student.lstm]
model = "softlab:text_lstm"
arguments = {{ width = 16, num_classes = 8 }}
loss = {{ name = "kl", temperature = 2.0 }}

[teachers]
alpha = 1.0

[run]
epochs = 3
batch_size = 4

[optimizer]
learning_rate = 1e-2

[log]
track = []
"""


def write(folder: Path) -> None:
    write_queries(folder / "queries.parquet")
    save_bert(folder / "bert", names=None, num_labels=1)
    (folder / "dump.toml").write_text(
        TEACHER.format(folder=folder) + RECIPE.format(folder=folder, input="pair_candidates = true")
    )
    (folder / "train.toml").write_text(
        STUDENTS.format(folder=folder)
        + RECIPE.format(folder=folder, input='tokenizer = "train:120"\nrelevance_field = "relevance"')
    )
    ranked = RECIPE.format(folder=folder, input='relevance_field = "relevance"')
    (folder / "apart.toml").write_text(f"[model]\narguments = {{ width = 16, num_classes = 8 }}\n{ranked}")
    (folder / "cross.toml").write_text(
        f"[model]\narguments = {{ task = 'ranking' }}\n{ranked}".replace("[device]", "pair_candidates = true\n[device]")
    )


def test_bi_encoders_learn_a_cross_encoders_scores_of_lists_of_any_length(softlab: Softlab, tmp_path: Path) -> None:
    write(tmp_path)

    dumped = softlab("dump-teacher", tmp_path / "dump.toml")

    assert (dumped.code, dumped.err) == (0, "")
    labels = open_store(tmp_path / "store").read(range(len(CANDIDATES)))
    assert labels.num_classes == 5
    assert labels.valid_B is not None
    assert labels.valid_B.tolist() == [len(each) for each in CANDIDATES]

    trained = softlab("train-student", tmp_path / "train.toml")
    assert trained.code == 0, trained
    for again in ("dump-teacher", tmp_path / "dump.toml"), ("train-student", tmp_path / "train.toml"):
        assert (answer := softlab(*again)).code == 0, answer  # finished: the same input is settled again
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(torch.tensor([line["train_loss"] for line in lines]).isfinite())
    assert lines[-1]["valid"]["values"].keys() == {"ndcg_at_10", "mrr_at_10", "ranked_share"}

    weights = tmp_path / "run" / "lstm" / "last.safetensors"
    measured = {
        name: softlab("evaluate", tmp_path / recipe, "--json", *own)
        for name, recipe, own in [
            ("teacher", "cross.toml", ("--model", f"hf:{tmp_path / 'bert'}", "--store", tmp_path / "store")),
            ("student", "apart.toml", ("--model", "softlab:text_lstm", "--weights", weights)),
        ]
    }
    assert [each.code for each in measured.values()] == [0, 0], measured
    found = json.loads(measured["teacher"].out)["values"]
    assert found["teacher_agreement"] == 1
    assert found["teacher_kl"] < 1e-6
    assert found["ranked_share"] == 0.75
    assert json.loads(measured["student"].out)["values"] == lines[-1]["valid"]["values"]

    told = ("--set", "input.modality=text", "--set", "input.field=query", "--set", "source.fields.query=query")
    dumped = softlab(
        *("dump-teacher", "--teacher", "softlab:text_lstm", "--weights", weights, "--out", tmp_path / "vectors"),
        *("--set", "teacher.arguments={width = 16, num_classes = 8}", "--output", "embedding:values", *told),
        *("--source", tmp_path / "queries.parquet"),
    )
    assert dumped.code == 0, dumped
    assert open_store(tmp_path / "vectors").read_features("embedding", range(12)).shape == (12, 8)


def test_a_source_whose_queries_have_more_candidates_than_the_stores_is_refused(
    softlab: Softlab, tmp_path: Path
) -> None:
    write(tmp_path)
    assert softlab("dump-teacher", tmp_path / "dump.toml").code == 0

    fewer = softlab("train-student", tmp_path / "train.toml", "--set", "input.max_candidates=4")
    more = softlab("train-student", tmp_path / "train.toml", "--set", "input.max_candidates=6")

    assert (fewer.code, more.code) == (1, 1)
    assert "it has 5 candidates, and `input.max_candidates` is 4" in fewer.err
    assert "the student has 6 outputs, but the labels are over 5 classes" in more.err


def test_triples_are_learnt_by_margins(softlab: Softlab, tmp_path: Path) -> None:
    bert = save_bert(tmp_path / "bert", names=None, num_labels=1)
    write_triples(tmp_path / "triples.parquet")
    (tmp_path / "triples.toml").write_text(TRIPLES.format(folder=tmp_path))
    dumped = softlab(
        *("dump-teacher", tmp_path / "triples.toml", "--teacher", f"hf:{bert}", "--out", tmp_path / "store"),
        *("--set", "teacher.arguments={task = 'ranking'}", "--set", "input.pair_candidates=true"),
        *("--output", "scores:values"),
    )
    assert (dumped.code, dumped.err) == (0, "")
    assert open_store(tmp_path / "store").read_features("scores", [0]).shape == (1, 2)

    trained = softlab(
        *("train-student", tmp_path / "triples.toml", "--store", tmp_path / "store", "--out", tmp_path / "run"),
        *("--student", "softlab:text_bag", "--alpha", "1", "--loss", "margin_mse"),
        *("--set", "input.tokenizer=train:120"),
    )

    assert trained.code == 0, trained


def write_scores(path: Path, scores: list[list[float]]) -> None:
    keys = [f"{number:02}" for number in range(len(scores))]
    pq.write_table(pa.table({"key": keys, "logits": scores}), path)


def test_scores_of_lists_of_any_length_are_imported(softlab: Softlab, tmp_path: Path) -> None:
    write(tmp_path)
    scores = [[3.0 * place - query for place in range(len(each))] for query, each in enumerate(CANDIDATES)]
    write_scores(tmp_path / "scores.parquet", scores)
    imports = (
        *("import", tmp_path / "scores.parquet", "--source", tmp_path / "queries.parquet", "--out", tmp_path / "store"),
        *("--set", "source.fields={text = 'query', candidates = 'candidates', relevance = 'relevance'}"),
        *("--set", "predictions.candidate_fields=['candidates']", "--set", "dump.coding=float32"),
        *("--set", "modality=text"),
    )

    imported = softlab(*imports)

    assert imported.code == 0, imported
    labels = open_store(tmp_path / "store").read(range(len(CANDIDATES)))
    assert labels.valid_B is not None
    assert labels.valid_B.tolist() == [len(each) for each in CANDIDATES]
    assert labels.max_logit_B.tolist() == [max(each) for each in scores]
    recipe = (tmp_path / "train.toml").read_text().replace('query = "query"', 'text = "query"')
    (tmp_path / "train.toml").write_text(recipe.replace('field = "query"', 'field = "text"'))
    trained = softlab("train-student", tmp_path / "train.toml")
    assert trained.code == 0, trained


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ([1.0], "the sample '03' of parquet:queries.parquet has 5 candidates, and its row 1 scores"),
        ([1.0] * 6, "has 5 candidates, and its row 6 scores. Give each candidate one, in their order"),
    ],
)
def test_imported_scores_of_more_or_fewer_candidates_are_refused(
    softlab: Softlab, tmp_path: Path, changed: list[float], message: str
) -> None:
    write(tmp_path)
    scores = [[float(place) for place in range(len(each))] for each in CANDIDATES]
    scores[3] = changed
    write_scores(tmp_path / "scores.parquet", scores)

    refused = softlab(
        *("import", tmp_path / "scores.parquet", "--source", tmp_path / "queries.parquet", "--out", tmp_path / "store"),
        *("--set", "source.fields={query = 'query', candidates = 'candidates'}"),
        *("--set", "predictions.candidate_fields=['candidates']"),
    )

    assert_refused(refused, message)
    assert not (tmp_path / "store").exists()

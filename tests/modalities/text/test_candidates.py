"""Queries with candidates as inputs of models."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import softlab
from softlab.errors import InvalidOption, ModelError, UnreadableSample
from softlab.modalities.inputs import Collated
from softlab.modalities.modality import decode_sample, decoding_for, settle_input
from softlab.modalities.text.candidates import count_candidates
from softlab.modalities.text.inputs import TextInput
from softlab.modalities.text.modality import MODALITY
from softlab.modalities.text.models import text_bag, text_lstm, text_transformer
from softlab.modalities.text.tokenizer import train_tokenizer
from softlab.models.build import ModelOptions, build_model
from softlab.sources.source import Source
from tests.modalities.text.berts import save_bert
from tests.modalities.text.queries import CANDIDATES, FIELDS, QUERIES, write_queries, write_triples
from tests.modalities.text.reviews import TEXTS

TRAINED = train_tokenizer([*TEXTS, *QUERIES], vocab_size=120)
APART = TextInput(tokenizer="train:120", trained=TRAINED, field="query", candidate_fields=("candidates",))
PAIRED = replace(APART, pair_candidates=True)


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return opened(write_queries(tmp_path / "queries.parquet"), **FIELDS, relevance="relevance")


def opened(path: Path, **fields: str) -> Source:
    return softlab.open_source(softlab.SourceOptions(path=str(path), fields=fields), modality="text")


def collated(source: Source, options: TextInput, *indices: int) -> Collated:
    modality = decoding_for(MODALITY, (options,))
    return modality.collate([decode_sample(source.read(index), modality) for index in indices], options)


def students() -> list[nn.Module]:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"vocab_size": 120, "num_classes": 6}
    return [
        text_bag(**sizes, width=8).eval(),
        text_lstm(**sizes, width=8).eval(),
        text_transformer(**sizes, max_length=64, width=8, num_heads=2, num_layers=1).eval(),
    ]


def alone(student: nn.Module, text: str, pair: str | None = None) -> Any:
    """What it gives for one text, or one pair."""
    options = replace(APART, field="", candidate_fields=())
    if pair is None:
        return student(**MODALITY.collate([MODALITY.decode(text)], options).inputs.named)
    options = replace(options, field="a", pair_field="b")
    modality: Any = decoding_for(MODALITY, (options,))
    named = dict(modality.collate([modality.decode({"a": text, "b": pair})], options).inputs.named)
    return student(**named)


def test_the_candidates_of_the_query_that_has_most_are_counted_over_the_whole_source(source: Source) -> None:
    settled = settle_input(replace(APART, identity=""), source)

    assert settled.max_candidates == 5
    assert settle_input(settled, source) == settled
    assert settle_input(replace(APART, max_candidates=9), source).max_candidates == 9


def test_a_bi_encoder_scores_each_candidate_by_the_vectors_of_both_texts(source: Source) -> None:
    named = collated(source, replace(APART, max_candidates=5), 0, 3).inputs.named

    assert named["candidate_ids"].shape[:2] == (2, 5)
    for student in students():
        scores_BN = student(**named)

        assert scores_BN.isneginf().tolist() == [[False] * 2 + [True] * 3, [False] * 5]
        for row, query in enumerate((0, 3)):
            for place, candidate in enumerate(CANDIDATES[query]):
                expected = (alone(student, QUERIES[query]) * alone(student, candidate)).sum()
                assert_close(scores_BN[row, place], expected)


def test_a_cross_encoder_scores_each_pair_as_it_does_alone(source: Source, tmp_path: Path) -> None:
    folder = save_bert(tmp_path / "bert", names=None, num_labels=1, vocab_size=120)
    bert = build_model(ModelOptions(model=f"hf:{folder}", arguments={"task": "ranking"})).eval()
    named = collated(source, replace(PAIRED, max_candidates=4), 1, 0).inputs.named

    scores_BN = bert(**named)

    assert named["token_type_ids"].shape == named["input_ids"].shape
    assert scores_BN.isneginf().tolist() == [[False] * 3 + [True], [False] * 2 + [True] * 2]
    for place, candidate in enumerate(CANDIDATES[1]):
        assert_close(scores_BN[0, place], alone(bert, QUERIES[1], candidate).logits[0, 0])


def test_a_small_student_reads_pairs_too_if_it_gives_one_number(source: Source) -> None:
    named = collated(source, replace(PAIRED, max_candidates=4), 1, 0).inputs.named
    student = text_bag(vocab_size=120, num_classes=1).eval()

    assert_close(student(**named)[0, 2], alone(student, QUERIES[1], CANDIDATES[1][2])[0, 0])
    with pytest.raises(ValueError, match=r"gives 6 numbers for a pair, expected one score: num_classes = 1"):
        students()[0](**named)


def test_an_encoder_of_hugging_faces_scores_by_its_vectors(source: Source, tmp_path: Path) -> None:
    folder = save_bert(tmp_path / "bert", vocab_size=120)
    arguments = {"task": "embedding", "normalize": True, "scale": 20.0}
    bert = build_model(ModelOptions(model=f"hf:{folder}", arguments=arguments)).eval()

    scores_BN = bert(**collated(source, replace(APART, max_candidates=2), 0).inputs.named)

    query, candidate = (alone(bert, text)["embedding"] for text in (QUERIES[0], CANDIDATES[0][1]))
    assert_close(scores_BN[0, 1], 20 * (query * candidate).sum())


def test_gradients_reach_a_student_through_the_scores_that_there_are(source: Source) -> None:
    for student in students():
        scores_BN = student(**collated(source, replace(APART, max_candidates=5), 0, 3).inputs.named)

        scores_BN[scores_BN.isfinite()].sum().backward()

        gradients = [parameter.grad for parameter in student.parameters()]
        assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
        assert any(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients)


def test_candidates_may_be_in_several_fields(tmp_path: Path) -> None:
    source = opened(write_triples(tmp_path / "triples.parquet"), query="query", yes="positive", no="negative")
    options = replace(APART, candidate_fields=("yes", "no"))

    settled = settle_input(options, source)
    named = collated(source, settled, 0).inputs.named

    assert settled.max_candidates == 2
    student = students()[0]
    assert_close(student(**named)[0, 1], (alone(student, QUERIES[0]) * alone(student, CANDIDATES[0][1])).sum())


def test_relevance_comes_along_for_each_candidate(source: Source) -> None:
    options = replace(APART, relevance_field="relevance", max_candidates=4)

    relevance_BN = collated(source, options, 1, 0).relevance_BN

    assert relevance_BN is not None
    assert relevance_BN.nan_to_num(-1).tolist() == [[0, 1, 2, -1], [0, 0, -1, -1]]


def test_the_views_of_a_teacher_of_candidates_are_those_of_each_text(source: Source) -> None:
    bound: Any = decoding_for(MODALITY, (APART,))
    digests = {bound.digest(decode_sample(source.read(index), bound)) for index in range(len(source))}
    example = {"query": "a", "candidates": ("b", "c")}

    assert len(digests) == len(source)
    assert bound.digest(example) != bound.digest({"query": "a", "candidates": ("bc",)})
    assert bound.digest(example) == bound.digest(bound.decode(example))


@pytest.mark.parametrize(
    ("candidates", "relevance", "most", "message"),
    [
        ([[], ["a"]], [[], [1]], None, r"row 0: sample '0' .*it has no candidates"),
        ([["a", "b"], ["a"]], [[1], [1]], None, r"it has 2 candidates, and its relevance has 1 numbers"),
        ([["a", "b"], ["a"]], [[1, -1], [1]], None, r"its relevance has numbers below 0 or that are none"),
        ([["a", "b"], ["a"]], [[1, 0], [1]], 1, r"it has 2 candidates, and `input.max_candidates` is 1"),
        ([["a", None], ["a"]], [[1, 0], [1]], None, r"the list of its candidates holds 1 empty places"),
        ([["a", " "], ["a"]], [[1, 0], [1]], None, r"its text is empty"),
    ],
)
def test_a_sample_whose_candidates_are_not_right_is_named(
    tmp_path: Path, candidates: list[Any], relevance: list[Any], most: int | None, message: str
) -> None:
    path = write_queries(tmp_path / "a.parquet", candidates=candidates, relevance=relevance, queries=["q", "r"])
    source = opened(path, **FIELDS, relevance="relevance")
    options = replace(APART, relevance_field="relevance", max_candidates=most)

    with pytest.raises(UnreadableSample, match=message):
        collated(source, options, 0)
    collated(source, options, 1)


def test_a_list_of_texts_is_no_single_one(source: Source) -> None:
    with pytest.raises(UnreadableSample, match=r"word 1 is none, as 'a lovely film' holds white space"):
        collated(source, replace(APART, field="candidates", candidate_fields=()), 0)


def test_relevance_that_is_no_number_is_refused(source: Source) -> None:
    with pytest.raises(UnreadableSample, match=r"it isn't numbers"):
        collated(source, replace(APART, relevance_field="query"), 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pair_field": "answer"}, "input.pair_field and input.candidate_fields: a pair has one second text"),
        ({"candidate_fields": ("query",)}, r"expected fields other than the query's, 'query'"),
        ({"max_candidates": 0}, "input.max_candidates = 0: leaves none"),
        ({"candidate_fields": (), "pair_candidates": True}, "input.pair_candidates: there are no candidates"),
        ({"candidate_fields": (), "relevance_field": "grade"}, "input.relevance_field: there are no candidates"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        replace(APART, **options)


def test_a_classifier_is_no_cross_encoder(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"it has 2 outputs a pair, and a ranking is by one score. Say `num_labels = 1`"
    ):
        build_model(ModelOptions(model=f"hf:{save_bert(tmp_path)}", arguments={"task": "ranking"}))


@pytest.mark.parametrize("task", ["ranking", "classification"])
def test_a_model_without_vectors_refuses_texts_that_are_apart(source: Source, tmp_path: Path, task: str) -> None:
    folder = save_bert(tmp_path / "bert", names=None, num_labels=1, vocab_size=120)
    bert = build_model(ModelOptions(model=f"hf:{folder}", arguments={"task": task})).eval()

    with pytest.raises(ValueError, match=r"Say `input.pair_candidates = true` with `arguments.task = 'ranking'`"):
        bert(**collated(source, APART, 0).inputs.named)


def test_weights_that_learnt_from_candidates_are_used_with_those_of_another_data_set() -> None:
    learnt = replace(APART, max_candidates=5, relevance_field="grade")

    single = MODALITY.told_anew(learnt, TextInput(field="body"))
    others = MODALITY.told_anew(learnt, TextInput(candidate_fields=("answers",), max_candidates=9))

    assert single == replace(APART, field="body", candidate_fields=())
    assert others == replace(learnt, candidate_fields=("answers",), max_candidates=9)
    assert MODALITY.told_anew(learnt, TextInput()) == learnt
    assert MODALITY.told_anew(PAIRED, TextInput(field="query")) == PAIRED


def test_counting_candidates_holds_few_of_many_samples() -> None:
    examples = [{"query": str(number), "candidates": ("a",) * (1 + number % 7)} for number in range(100)]

    kept, most = count_candidates(examples, APART, keep=10)

    assert most == 7
    assert [int(each["query"]) for each in kept] == list(range(0, 100, 16))

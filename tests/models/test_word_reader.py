"""Question answering models of transformers, answering among words."""

# Shape letters: B texts in a batch, C classes.

from pathlib import Path

import pytest
import torch
from torch import nn

from softlab.errors import ModelError, RandomWeights
from softlab.modalities.text.modality import Text
from softlab.models.build import ModelOptions, build_model
from tests.modalities.text.berts import save_bert
from tests.modalities.text.questions import CONTEXTS, MAX_WORDS, QUESTIONS, input_of, save_reader

MODALITY = Text(fields=("question", "context"))
EXAMPLES = [{"question": QUESTIONS[0], "context": CONTEXTS[0]}, {"question": QUESTIONS[1], "context": "The film"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_reader(tmp_path_factory.mktemp("reader"))


def build(folder: Path, **arguments: object) -> nn.Module:
    told = MODALITY.model_arguments(input_of(folder))
    return build_model(ModelOptions(model=f"hf:{folder}", arguments=arguments), told=told)


def test_a_word_has_the_scores_of_its_tokens_in_the_model_of_transformers(folder: Path) -> None:
    from transformers import AutoModelForQuestionAnswering

    named = MODALITY.collate(EXAMPLES, input_of(folder)).inputs.named
    plain = AutoModelForQuestionAnswering.from_pretrained(folder).eval()
    with torch.no_grad():
        found = build(folder, task="answers").eval()(**named)
        expected = plain(**{name: named[name] for name in ("input_ids", "attention_mask", "token_type_ids")})

    assert found.keys() == {"start", "end"}
    for name, scores_BL in [("start", expected.start_logits), ("end", expected.end_logits)]:
        tokens_BC = named["first_tokens" if name == "start" else "last_tokens"]
        for row in range(2):
            for column in range(1 + MAX_WORDS):
                token = int(tokens_BC[row, column])
                score = found[name][row, column]
                assert score == (scores_BL[row, token] if token >= 0 else -torch.inf)


@pytest.mark.parametrize(
    ("arguments", "max_words", "message"),
    [({"task": "answers"}, 0, "input.max_words = 0"), ({}, 16, "arguments.task = 'classification'")],
)
def test_answers_are_asked_for_by_the_model_and_by_its_input(
    folder: Path, arguments: dict[str, object], max_words: int, message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        build_model(ModelOptions(model=f"hf:{folder}", arguments=arguments), told={"max_words": max_words})


def test_a_model_without_a_head_for_answers_gets_a_random_one_and_says_so(tmp_path: Path) -> None:
    bert = save_bert(tmp_path)

    with pytest.warns(RandomWeights, match="qa_outputs"):
        build_model(ModelOptions(model=f"hf:{bert}", arguments={"task": "answers"}), told={"max_words": 3})

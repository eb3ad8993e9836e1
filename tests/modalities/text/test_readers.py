"""Small students that find answers."""

import pytest
import torch
from torch import Tensor, nn

from softlab.modalities.text.readers import in_other_text
from softlab.models.build import ModelOptions, build_model

MODELS = ("softlab:text_lstm", "softlab:text_transformer")
TOLD = {"vocab_size": 30, "pad_id": 0, "max_length": 12, "max_words": 4}
IDS = [2, 7, 9, 3, 8, 7, 5, 3]
TYPES = [0, 0, 0, 0, 1, 1, 1, 1]


def build(name: str, **arguments: object) -> nn.Module:
    torch.manual_seed(0)
    return build_model(ModelOptions(model=name, arguments={"width": 16, **arguments}), told=TOLD)


def inputs(*, length: int, rows: int = 1) -> dict[str, Tensor]:
    """A question of two tokens, a context of the words 8 7 and 5."""
    ids_BL = torch.tensor([IDS + [0] * (length - len(IDS))] * rows)
    types_BL = torch.tensor([TYPES + [0] * (length - len(IDS))] * rows)
    named = {"input_ids": ids_BL, "attention_mask": (ids_BL > 0).long(), "token_type_ids": types_BL}
    first, last = torch.tensor([[0, 4, 6, -1, -1]] * rows), torch.tensor([[0, 5, 6, -1, -1]] * rows)
    return named | {"first_tokens": first, "last_tokens": last}


@pytest.mark.parametrize("name", MODELS)
def test_padding_changes_nothing(name: str) -> None:
    model = build(name).eval()

    short, long = model(**inputs(length=8)), model(**inputs(length=12))

    assert short.keys() == {"start", "end"}
    torch.testing.assert_close(short, long)
    assert short["start"].isfinite().tolist() == [[True, True, True, False, False]]


@pytest.mark.parametrize("name", MODELS)
def test_readers_learn_every_weight(name: str) -> None:
    model = build(name, dropout=0.0)

    found = model(**inputs(length=8))
    sum(each[each.isfinite()].square().sum() for each in found.values()).backward()

    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_token_is_marked_that_the_other_text_has_too() -> None:
    named = inputs(length=10)

    found = in_other_text(named["input_ids"], named["token_type_ids"], named["attention_mask"])

    assert found.tolist() == [[0, 1, 0, 1, 0, 1, 0, 1, 0, 0]]

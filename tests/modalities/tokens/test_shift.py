import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from softlab.modalities.tokens.inputs import TokensInput
from softlab.modalities.tokens.modality import MODALITY
from softlab.modalities.tokens.shift import ReadTokens, rows_of, token_units
from softlab.models.rows import classes_as_rows
from tests.modalities.tokens.llamas import DOCUMENTS, save_tokenizer


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> TokensInput:
    return TokensInput(tokenizer=str(save_tokenizer(tmp_path_factory.mktemp("tokenizer"))), max_length=20)


def knowing(ids_BL: Tensor, *, shift: int) -> Tensor:
    """Logits [B, L, C] that put everything at token t on token t + shift."""
    return 100.0 * functional.one_hot(ids_BL.roll(-shift, dims=1), 320).float()


@pytest.mark.parametrize(("shift", "accuracy"), [(1, 1.0), (0, 0.0), (2, 0.0)])
def test_who_knows_the_next_token_is_always_right_and_who_tells_another_one_never(
    options: TokensInput, shift: int, accuracy: float
) -> None:
    """The documents hold no token that is its own neighbour, or the next but one."""
    collated = MODALITY.collate([MODALITY.decode(text) for text in (DOCUMENTS[0], DOCUMENTS[3])], options)
    assert collated.units is not None
    assert collated.units.targets_R is not None

    logits_BLC = knowing(collated.inputs.named["input_ids"], shift=shift)
    rows = classes_as_rows(logits_BLC, name="logits", num_samples=2, counted=collated.units).known

    right_R = rows.argmax(dim=1) == collated.units.targets_R
    assert len(right_R) > 30
    assert right_R.float().mean().item() == accuracy


def read(*numbers: int, learnt: str, total: int) -> ReadTokens:
    return ReadTokens(
        ids_T=np.array(numbers) + 100,
        numbers_T=np.array(numbers),
        is_learnt_T=np.array([letter == "*" for letter in learnt]),
        total=total,
    )


@pytest.mark.parametrize(
    ("tokens", "rows"),
    [
        (read(0, 1, 2, 3, learnt="****", total=4), [0, 1, 2]),
        (read(0, 1, 2, 3, learnt="..**", total=4), [1, 2]),
        (read(0, 1, 2, 3, learnt="*...", total=4), []),
        (read(0, 7, 8, 9, learnt="****", total=10), [1, 2]),  # those between were cut off
        (read(0, learnt="*", total=1), []),
    ],
)
def test_a_token_has_a_row_where_the_next_one_is_read_and_learnt(tokens: ReadTokens, rows: list[int]) -> None:
    assert rows_of(tokens).tolist() == rows


def test_rows_are_found_in_what_is_filled_up() -> None:
    tokens = [read(0, 1, 2, learnt="***", total=5), read(4, learnt="*", total=6)]

    units = token_units(tokens, starts=[0, 4], num_sequences=2, length=4)

    assert units.rows_B.tolist() == [2, 0]
    assert units.keys_R.tolist() == [0, 1]
    assert units.numbers_R is not None
    assert units.numbers_R.tolist() == [0, 1]
    assert units.targets_R is not None
    assert units.targets_R.tolist() == [101, 102]
    assert units.totals_B is not None
    assert units.totals_B.tolist() == [5, 6]


def test_keys_count_the_whole_batch() -> None:
    tokens = [read(0, learnt="*", total=1), read(0, 1, 2, learnt="*.*", total=3)]

    units = token_units(tokens, starts=[0, 3], num_sequences=2, length=3)

    assert units.keys_R.tolist() == [3 + 1]
    assert torch.equal(units.rows_B, torch.tensor([0, 1]))

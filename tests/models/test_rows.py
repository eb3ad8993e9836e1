# Shape letters: B samples in a batch, L positions of a sample, C classes, R rows of all samples that count.

import re
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from softlab.errors import ModelError
from softlab.modalities.inputs import Inputs, Units
from softlab.models.rows import OutputRows, classes_as_rows, logits_of, values_as_rows

LOGITS_BC, EMBEDDING_BD = torch.arange(6.0).reshape(2, 3), torch.ones(2, 4)
LOGITS_BLC = torch.arange(24.0).reshape(2, 4, 3)
COUNTED = Units(rows_B=torch.tensor([1, 2]), keys_R=torch.tensor([3, 4, 6]))
"""Position 3 of the first sample, 0 and 2 of the second."""


class Returning(nn.Module):
    def __init__(self, value: object) -> None:
        super().__init__()
        self.value = value

    def forward(self, inputs: Tensor) -> object:
        return self.value


def logits(value: object, *, counted: Units | None = None) -> OutputRows:
    inputs = Inputs(positional=(torch.zeros(2, 5),))
    return logits_of(Returning(value), inputs, device=torch.device("cpu"), autocast="none", counted=counted)


@pytest.mark.parametrize(
    "value", [LOGITS_BC, SimpleNamespace(logits=LOGITS_BC), {"hidden": EMBEDDING_BD, "logits": LOGITS_BC}]
)
def test_logits_are_the_only_output_or_the_one_of_that_name(value: Any) -> None:
    assert logits(value).rows is LOGITS_BC
    assert logits(value).counts_B is None


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ((LOGITS_BC, EMBEDDING_BD), "0 [2, 3], 1 [2, 4]"),
        ({"scores": LOGITS_BC}, "scores [2, 3]"),
        ({"logits": torch.zeros(1, 3), "hidden": EMBEDDING_BD}, "[1, 3] for 2 samples"),
    ],
)
def test_a_model_without_logits_is_refused_with_what_there_is(value: Any, found: str) -> None:
    with pytest.raises(ModelError, match=re.escape(found)):
        logits(value)


def test_positions_become_rows_one_sample_behind_the_other() -> None:
    found = logits(LOGITS_BLC)

    assert found.counts_B is not None
    assert found.positions_R is not None
    assert found.rows.equal(LOGITS_BLC.flatten(end_dim=1))
    assert found.counts_B.tolist() == [4, 4]
    assert found.positions_R.tolist() == [0, 1, 2, 3] * 2


def test_a_map_of_logits_has_its_classes_second() -> None:
    logits_BCHW = LOGITS_BLC.movedim(2, 1).reshape(2, 3, 2, 2)

    assert classes_as_rows(logits_BCHW, name="logits", num_samples=2).rows.equal(LOGITS_BLC.flatten(end_dim=1))


def test_only_the_positions_that_the_modality_counts_are_rows() -> None:
    found = logits(LOGITS_BLC, counted=COUNTED)

    assert found.counts_B is not None
    assert found.positions_R is not None
    assert found.rows.equal(torch.stack([LOGITS_BLC[0, 3], LOGITS_BLC[1, 0], LOGITS_BLC[1, 2]]))
    assert (found.counts_B.tolist(), found.positions_R.tolist()) == ([1, 2], [3, 0, 2])


def test_values_are_one_row_a_sample_unless_positions_are_counted() -> None:
    assert values_as_rows(LOGITS_BLC, name="tokens", num_samples=2).rows is LOGITS_BLC
    assert len(values_as_rows(LOGITS_BLC, name="tokens", num_samples=2, counted=COUNTED).rows) == 3


@pytest.mark.parametrize("shape", [(2,), (3, 4), (2, 3, 4, 5, 6)])
def test_classes_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match=rf"output logits: has the shape {re.escape(str(list(shape)))} for 2 samples"):
        classes_as_rows(torch.zeros(shape), name="logits", num_samples=2)

# Shape letters: B samples in a batch, L positions of a sample, R rows of all samples that count, C classes.

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from softlab.errors import ModelError
from softlab.labels.lazy_logits import LazyLogits
from softlab.modalities.inputs import Inputs, Units
from softlab.models.rows import OutputRows, classes_as_rows, logits_of, values_as_rows

BOTH = pytest.mark.parametrize("as_rows", [classes_as_rows, values_as_rows])


def units_of(is_counted_BL: Tensor) -> Units:
    """As a modality gives them for a mask of positions."""
    return Units(rows_B=is_counted_BL.sum(dim=1), keys_R=is_counted_BL.flatten().nonzero().flatten())


@BOTH
def test_an_output_with_one_row_a_sample_is_its_rows(as_rows: Callable[..., OutputRows]) -> None:
    output_BC = torch.randn(4, 5)

    found = as_rows(output_BC, name="logits", num_samples=4)

    assert found.known is output_BC
    assert (found.counts_B, found.positions_R) == (None, None)


@given(num_samples=st.integers(1, 4), length=st.integers(1, 5), num_classes=st.integers(1, 3))
def test_positions_become_rows_sample_by_sample(num_samples: int, length: int, num_classes: int) -> None:
    output_BLC = torch.randn(num_samples, length, num_classes)

    found = classes_as_rows(output_BLC, name="logits", num_samples=num_samples)

    expected = [(sample, place) for sample in range(num_samples) for place in range(length)]
    assert found.counts_B is not None
    assert found.positions_R is not None
    assert found.counts_B.tolist() == [length] * num_samples
    assert found.positions_R.tolist() == [place for _, place in expected]
    assert found.known.equal(torch.stack([output_BLC[sample, place] for sample, place in expected]))


def test_a_map_has_its_positions_row_by_row_and_channels_are_classes() -> None:
    output_BCHW = torch.randn(2, 5, 3, 4)

    found = classes_as_rows(output_BCHW, name="logits", num_samples=2)

    assert found.counts_B is not None
    assert found.positions_R is not None
    assert (found.known.shape, found.counts_B.tolist()) == ((24, 5), [12, 12])
    for row, position in enumerate(found.positions_R.tolist()):
        assert found.known[row].equal(output_BCHW[row // 12, :, position // 4, position % 4])


@BOTH
@given(data=st.data())
def test_where_a_modality_counts_positions_only_those_are_rows(
    as_rows: Callable[..., OutputRows], data: st.DataObject
) -> None:
    num_samples, length = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 5))
    mask = data.draw(st.lists(st.booleans(), min_size=num_samples * length, max_size=num_samples * length))
    is_counted_BL = torch.tensor(mask).reshape(num_samples, length)
    output_BLC = torch.randn(num_samples, length, 3)

    found = as_rows(output_BLC, name="logits", num_samples=num_samples, counted=units_of(is_counted_BL))

    assert found.counts_B is not None
    assert found.positions_R is not None
    assert found.known.equal(output_BLC[is_counted_BL])
    assert found.counts_B.tolist() == is_counted_BL.sum(dim=1).tolist()
    assert found.positions_R.tolist() == is_counted_BL.nonzero()[:, 1].tolist()


@BOTH
def test_one_row_a_sample_stays_one_where_a_modality_counts_positions(as_rows: Callable[..., OutputRows]) -> None:
    """As of a text's class beside the classes of its words."""
    found = as_rows(torch.randn(2, 5), name="logits", num_samples=2, counted=units_of(torch.ones(2, 3).bool()))

    assert (found.known.shape, found.counts_B) == ((2, 5), None)


@pytest.mark.parametrize("shape", [(2, 7, 5), (2, 5, 3, 4), (2, 1, 1, 1, 1)])
def test_values_of_any_shape_are_stored_as_they_are(shape: tuple[int, ...]) -> None:
    output = torch.randn(shape)

    found = values_as_rows(output, name="map", num_samples=2)

    assert found.known is output
    assert found.counts_B is None


@BOTH
@pytest.mark.parametrize("shape", [(), (3,), (3, 5), (5, 2)])
def test_an_output_without_one_row_a_sample_is_refused(
    as_rows: Callable[..., OutputRows], shape: tuple[int, ...]
) -> None:
    message = f"output pooled: has the shape {list(shape)} for 2 samples, expected [2, ...]: one row a sample. Name a"

    with pytest.raises(ModelError, match=re.escape(message)):
        as_rows(torch.zeros(shape), name="pooled", num_samples=2)


@pytest.mark.parametrize("shape", [(2,), (2, 3, 4, 5, 6)])
def test_classes_of_another_shape_are_refused_with_those_that_can_be(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError) as refused:
        classes_as_rows(torch.zeros(shape), name="logits", num_samples=2)

    assert str(refused.value) == (
        f"output logits: has the shape {list(shape)} for 2 samples, expected [2, classes], [2, positions, classes] or "
        f"[2, classes, height, width]. Take another one, or store it as it is with `dump.output = logits:values`."
    )


@pytest.mark.parametrize("counted", [None, units_of(torch.ones(2, 3).bool())], ids=["", "beside counted positions"])
def test_one_number_a_sample_is_a_row_of_one(counted: Units | None) -> None:
    found = values_as_rows(torch.tensor([0.5, 2.0]), name="score", num_samples=2, counted=counted)

    assert found.known.tolist() == [[0.5], [2.0]]
    assert found.counts_B is None


# The logits of a model.

LOGITS_BC, EMBEDDING_BD = torch.arange(6.0).reshape(2, 3), torch.ones(2, 4)


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


def test_logits_at_positions_are_rows_of_those_that_count() -> None:
    logits_BLC, is_counted_BL = torch.randn(2, 4, 3), torch.tensor([[0, 0, 0, 1], [1, 0, 1, 0]]).bool()

    assert logits(logits_BLC).known.equal(logits_BLC.flatten(end_dim=1))
    assert logits(logits_BLC, counted=units_of(is_counted_BL)).known.equal(logits_BLC[is_counted_BL])


def test_logits_that_are_not_computed_yet_become_rows_without_being_computed() -> None:
    is_counted_BL = torch.tensor([[True, False, True], [False, True, False]])
    lazy = LazyLogits(hidden=torch.randn(2, 3, 4), weight_CD=torch.randn(9, 4))

    found = classes_as_rows(lazy, name="logits", num_samples=2, counted=units_of(is_counted_BL))

    assert isinstance(found.rows, LazyLogits)
    assert found.known.equal(lazy.hidden[is_counted_BL])
    assert found.rows.whole().equal(lazy.whole()[is_counted_BL])
    assert found.counts_B is not None
    assert found.counts_B.tolist() == [2, 1]


def test_logits_that_are_not_computed_yet_are_no_values() -> None:
    lazy = LazyLogits(hidden=torch.randn(2, 3, 4), weight_CD=torch.randn(9, 4))

    with pytest.raises(ModelError, match=r"is logits of 9 classes, and no values"):
        values_as_rows(lazy, name="logits", num_samples=2)

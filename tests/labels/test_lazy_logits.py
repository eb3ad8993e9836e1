from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from softlab.labels.lazy_logits import CHUNK_BYTES, LazyLogits, row_slices

# Shape letters: B sequences of L positions, R rows, D width, C classes.


def lazy(*leading: int, num_classes: int = 11, dtype: torch.dtype = torch.float32) -> LazyLogits:
    generator = torch.Generator().manual_seed(0)
    hidden, weight_CD, bias_C = (
        torch.randn(shape, generator=generator) for shape in ((*leading, 5), (num_classes, 5), (num_classes,))
    )
    return LazyLogits(hidden=hidden.to(dtype), weight_CD=weight_CD.to(dtype), bias_C=bias_C.to(dtype))


def in_pieces(logits: LazyLogits, *, rows: int | None) -> Tensor:
    return torch.cat([each for _, each in logits.chunks(rows=rows)])


def test_they_are_what_the_output_layer_gives() -> None:
    logits, layer = lazy(2, 3), nn.Linear(5, 11)
    layer.load_state_dict({"weight": logits.weight_CD, "bias": logits.bias_C})

    assert logits.whole().equal(layer(logits.hidden))
    assert (logits.shape, logits.ndim, len(logits)) == ((2, 3, 11), 3, 2)
    assert (logits.device, logits.dtype) == (logits.hidden.device, torch.float32)


@pytest.mark.parametrize(
    ("change", "formula"),
    [
        ({"scale": 0.25}, lambda z: z / 4),
        ({"softcap": 2.0}, lambda z: 2 * torch.tanh(z / 2)),
        ({"scale": 3.0, "softcap": 2.0}, lambda z: 2 * torch.tanh(3 * z / 2)),
        ({"num_classes": 7}, lambda z: z[..., :7]),
    ],
    ids=["scale", "softcap", "scale before softcap", "padded vocabulary"],
)
def test_what_a_model_does_after_its_output_layer_is_done(
    change: dict[str, float], formula: Callable[[Tensor], Tensor]
) -> None:
    plain = lazy(4)

    changed = replace(plain, **change)  # type: ignore[arg-type]

    torch.testing.assert_close(changed.whole(), formula(plain.whole()))
    torch.testing.assert_close(in_pieces(changed, rows=3), formula(plain.whole()))
    assert changed.shape == changed.whole().shape


@pytest.mark.parametrize("change", [{}, {"scale": 0.25}, {"scale": 3.0, "softcap": 2.0}, {"num_classes": 7}], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("autocast", [False, True], ids=["", "autocast"])
def test_chunks_that_share_memory_have_the_same_bits(
    change: dict[str, float], dtype: torch.dtype, autocast: bool
) -> None:
    logits = replace(lazy(7, dtype=dtype), bias_C=None, **change)  # type: ignore[arg-type]

    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        anew = list(logits.chunks(rows=3))
        shared = [(some, chunk_RC.clone()) for some, chunk_RC in logits.chunks(rows=3, reuse=True)]

    assert [some for some, _ in shared] == [some for some, _ in anew]
    assert all(one.equal(other) for (_, one), (_, other) in zip(shared, anew, strict=True))


def test_chunks_share_memory_only_where_that_is_asked_for_and_nothing_is_differentiated() -> None:
    logits = replace(lazy(6), bias_C=None)

    with torch.no_grad():
        first, second = (chunk_RC for _, chunk_RC in logits.chunks(rows=3, reuse=True))
        apart = [chunk_RC.data_ptr() for chunk_RC in [chunk_RC for _, chunk_RC in logits.chunks(rows=3)]]
    learnt = replace(logits, weight_CD=logits.weight_CD.requires_grad_())

    assert first.data_ptr() == second.data_ptr()
    assert len(set(apart)) == 2
    assert torch.cat([chunk_RC for _, chunk_RC in learnt.chunks(rows=3, reuse=True)]).requires_grad


@pytest.mark.parametrize("rows", [1, 3, 6, 100, None])
def test_chunks_are_the_rows_in_their_order(rows: int | None) -> None:
    logits = lazy(2, 3).flatten_rows()

    assert logits.shape == (6, 11)
    torch.testing.assert_close(in_pieces(logits, rows=rows), logits.whole())
    assert [index for some, _ in logits.chunks(rows=rows) for index in range(some.start, some.stop)] == list(range(6))


def test_a_chunk_has_as_many_rows_as_fit_its_memory() -> None:
    slices = list(row_slices(torch.Size((10_000, 50_000))))

    assert slices[0] == slice(0, 335)
    assert slices[-1].stop == 10_000
    assert all(4 * 50_000 * (some.stop - some.start) <= CHUNK_BYTES for some in slices)


def test_no_rows_have_no_chunks() -> None:
    assert list(lazy(0).chunks()) == []
    assert lazy(0).whole().shape == (0, 11)


@pytest.mark.parametrize("rows", [slice(1, 3), torch.tensor([2, 0, 0])], ids=["slice", "numbers"])
def test_some_rows_are_those_of_the_whole(rows: slice | Tensor) -> None:
    logits = lazy(4)

    torch.testing.assert_close(logits[rows].whole(), logits.whole()[rows])


def test_the_product_is_computed_as_the_model_would_and_given_in_float32() -> None:
    logits = lazy(4, dtype=torch.bfloat16)

    product = nn.functional.linear(logits.hidden, logits.weight_CD, logits.bias_C)

    assert logits.whole().equal(product.float())
    assert lazy(4, dtype=torch.float64).whole().dtype == torch.float64


def test_hidden_states_in_float32_meet_the_weights_of_half_precision_in_float32() -> None:
    halves = lazy(4, dtype=torch.bfloat16)

    logits = replace(halves, hidden=halves.hidden.float())

    assert halves.bias_C is not None
    expected = nn.functional.linear(halves.hidden.float(), halves.weight_CD.float(), halves.bias_C.float())
    assert logits.whole().equal(expected)


def test_under_autocast_the_product_is_that_of_autocast() -> None:
    logits, layer = lazy(4), nn.Linear(5, 11)
    layer.load_state_dict({"weight": logits.weight_CD, "bias": logits.bias_C})

    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, expected = logits.whole(), layer(logits.hidden)

    assert expected.dtype == torch.bfloat16
    assert found.equal(expected.float())


def test_gradients_go_through_them() -> None:
    logits = lazy(3)
    weight_CD = logits.weight_CD.requires_grad_()

    logits.whole().sum().backward()  # type: ignore[no-untyped-call]

    assert weight_CD.grad is not None
    torch.testing.assert_close(weight_CD.grad, logits.hidden.sum(dim=0).expand(11, -1))


def test_one_line_tells_what_they_are() -> None:
    assert repr(lazy(2, 3)) == "LazyLogits([2, 3, 11], from hidden states [5], torch.float32)"

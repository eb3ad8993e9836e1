import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from numpy.typing import NDArray

from softlab.errors import TeacherError
from softlab.labels.coding import GAP_STEP, LARGEST_FLOAT16, MAX_GAP, Coding, LabelCoding, gaps_of, logits_of_gaps
from softlab.labels.selection import keep_top_k
from softlab.labels.soft_labels import Head, SoftLabels

# Shape letters: B rows, C classes, K entries kept (K <= C), T temperatures.

CODINGS: tuple[Coding, ...] = ("float32", "float16", "uint8")
Floats = NDArray[np.float32]


def make_labels(
    *,
    num_classes: int = 100,
    k: int = 8,
    scale: float = 3.0,
    offset: float = 0.0,
    seed: int = 0,
    head: Head = "softmax",
) -> SoftLabels:
    logits_BC = offset + scale * torch.randn(5, num_classes, generator=torch.Generator().manual_seed(seed))
    return keep_top_k(logits_BC, k=k, head=head)


def labels_with_logits(logits_BK: Floats) -> SoftLabels:
    """Labels whose kept logits are the given ones, over as many classes."""
    return keep_top_k(torch.from_numpy(logits_BK), k=logits_BK.shape[1])


def make_coding(coding: Coding, labels: SoftLabels, *, gap_step: float = GAP_STEP) -> LabelCoding:
    return LabelCoding(
        coding=coding,
        gap_step=gap_step,
        num_classes=labels.num_classes,
        temperatures=labels.temperatures,
        head=labels.head,
    )


def round_trip(coding: LabelCoding, labels: SoftLabels) -> SoftLabels:
    return coding.decode(coding.encode(labels))


def decoded(gaps_BK: NDArray[np.uint8], *, step: float = GAP_STEP) -> Floats:
    logits_BK: Floats = logits_of_gaps(torch.from_numpy(gaps_BK), step=step).numpy()
    return logits_BK


@st.composite
def labels_of_any_shape(draw: st.DrawFn) -> SoftLabels:
    num_classes = draw(st.integers(1, 50))
    return make_labels(
        num_classes=num_classes,
        k=draw(st.integers(1, num_classes) | st.just(num_classes)),
        scale=draw(st.sampled_from([1e-4, 1.0, 30.0, 3000.0])),
        offset=draw(st.sampled_from([0.0, -20.0, 1000.0])),
        seed=draw(st.integers(0, 1000)),
        head=draw(st.sampled_from(["softmax", "sigmoid"])),
    )


def descending_logits(*, largest_gap: float, max_k: int) -> st.SearchStrategy[Floats]:
    """float32 [B, K]: rows that start at 0 and fall by gaps of up to so many nats."""
    gaps_BK = arrays_of.arrays(
        np.float64,
        st.tuples(st.integers(1, 3), st.integers(1, max_k)),
        elements=st.floats(0, largest_gap),
        fill=st.sampled_from([0.0, GAP_STEP / 2, GAP_STEP, largest_gap]),
    )
    return gaps_BK.map(lambda gaps: -(gaps.cumsum(axis=1) - gaps[:, :1]).astype(np.float32))


@given(labels_of_any_shape())
def test_float32_is_exact_to_the_bit(labels: SoftLabels) -> None:
    decoded = round_trip(make_coding("float32", labels), labels)

    assert torch.equal(decoded.class_ids_BK, labels.class_ids_BK)
    assert torch.equal(decoded.logits_BK.view(torch.int32), labels.logits_BK.view(torch.int32))
    assert torch.equal(decoded.log_tail_BT.view(torch.int32), labels.log_tail_BT.view(torch.int32))
    assert torch.equal(decoded.max_logit_B.view(torch.int32), labels.max_logit_B.view(torch.int32))
    assert (decoded.temperatures, decoded.num_classes) == (labels.temperatures, labels.num_classes)
    assert decoded.head == labels.head


@given(labels_of_any_shape())
def test_float16_rounds_once(labels: SoftLabels) -> None:
    coding = make_coding("float16", labels)

    decoded = round_trip(coding, labels)

    assert torch.equal(decoded.class_ids_BK, labels.class_ids_BK)
    assert torch.equal(decoded.logits_BK, labels.logits_BK.half().float())
    assert torch.equal(decoded.log_tail_BT, labels.log_tail_BT.half().float())
    assert torch.equal(decoded.max_logit_B, labels.max_logit_B.half().float())
    assert coding.count_clipped(labels, coding.encode(labels)) == 0


@pytest.mark.parametrize("gap_step", [GAP_STEP, 1 / 4, 0.1])
@given(data=st.data())
def test_uint8_stays_within_half_a_step_however_many_are_kept(gap_step: float, data: st.DataObject) -> None:
    logits_BK = data.draw(descending_logits(largest_gap=254 * gap_step, max_k=200))

    decoded_BK = decoded(gaps_of(logits_BK, step=gap_step), step=gap_step)

    rounding = gap_step / 2 + 1e-6 * np.abs(logits_BK)  # and float32's own
    assert (np.abs(decoded_BK - logits_BK) <= rounding).all()


@given(descending_logits(largest_gap=400 * GAP_STEP, max_k=20))
def test_clipped_gaps_reach_as_deep_as_they_can(logits_BK: Floats) -> None:
    decoded_BK = decoded(gaps_of(logits_BK))

    for row, reached in zip(logits_BK.tolist(), decoded_BK.tolist(), strict=True):
        depth = 0
        for logit, found in zip(row, reached, strict=True):
            depth = min(round(-logit / GAP_STEP), depth + MAX_GAP)
            assert found == -depth * GAP_STEP


@given(descending_logits(largest_gap=400 * GAP_STEP, max_k=20))
def test_uint8_never_changes_the_order(logits_BK: Floats) -> None:
    decoded_BK = decoded(gaps_of(logits_BK))

    assert (decoded_BK[:, 0] == 0).all()
    assert (np.diff(decoded_BK, axis=1) <= 0).all()


@given(descending_logits(largest_gap=400 * GAP_STEP, max_k=20))
def test_what_lies_beyond_rounding_is_counted(logits_BK: Floats) -> None:
    on_steps_BK = np.round(logits_BK / GAP_STEP).astype(np.float32) * np.float32(GAP_STEP)
    labels = labels_with_logits(on_steps_BK)
    coding = make_coding("uint8", labels)

    arrays = coding.encode(labels)

    changed = coding.decode(arrays).logits_BK != labels.logits_BK
    assert coding.count_clipped(labels, arrays) == int(changed.sum())


def test_the_logits_after_a_clipped_gap_recover() -> None:
    logits_BK = np.array([[0, -20, -20.5, -33, -34]], dtype=np.float32)

    gaps_BK = gaps_of(logits_BK)

    assert gaps_BK.tolist() == [[0, 255, 73, 200, 16]]
    assert decoded(gaps_BK).tolist() == [[0, -15.9375, -20.5, -33, -34]]


def test_a_long_row_of_the_largest_gaps_is_exact() -> None:
    logits_BK = -(MAX_GAP * GAP_STEP) * np.arange(50_000, dtype=np.float32)[None]

    np.testing.assert_array_equal(decoded(gaps_of(logits_BK)), logits_BK)


@given(labels_of_any_shape(), st.sampled_from([1 / 64, 1 / 2, 3.0]))
def test_another_gap_step_is_honoured(labels: SoftLabels, gap_step: float) -> None:
    coding = make_coding("uint8", labels, gap_step=gap_step)

    arrays = coding.encode(labels)

    np.testing.assert_array_equal(arrays["logits"], gaps_of(labels.logits_BK.numpy(), step=gap_step))
    decoded_BK = coding.decode(arrays).logits_BK.numpy()
    np.testing.assert_array_equal(decoded_BK, decoded(arrays["logits"], step=gap_step))
    if coding.count_clipped(labels, arrays) == 0:
        np.testing.assert_allclose(decoded_BK, labels.logits_BK.numpy(), rtol=1e-6, atol=0.51 * gap_step)


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize(("num_classes", "dtype"), [(10, "uint16"), (65_536, "uint16"), (65_537, "uint32")])
def test_the_last_class_has_room_for_its_id(coding: Coding, num_classes: int, dtype: str) -> None:
    logits_BC = torch.zeros(2, num_classes)
    logits_BC[:, -1] = 1
    labels = keep_top_k(logits_BC, k=1)

    arrays = make_coding(coding, labels).encode(labels)

    assert arrays["class_ids"].dtype == dtype
    assert make_coding(coding, labels).decode(arrays).class_ids_BK.tolist() == [[num_classes - 1]] * 2


@pytest.mark.parametrize(
    ("coding", "dtypes"),
    [
        ("float32", {"class_ids": "uint16", "logits": "float32", "max_logit": "float32", "log_tail": "float32"}),
        ("float16", {"class_ids": "uint16", "logits": "float16", "max_logit": "float16", "log_tail": "float16"}),
        ("uint8", {"class_ids": "uint16", "logits": "uint8", "max_logit": "float16", "log_tail": "float16"}),
    ],
)
def test_arrays_have_the_types_that_the_coding_promises(coding: Coding, dtypes: dict[str, str]) -> None:
    labels = make_labels()
    label_coding = make_coding(coding, labels)

    arrays = label_coding.encode(labels)

    assert {name: str(array.dtype) for name, array in arrays.items()} == dtypes
    assert label_coding.class_id_dtype == dtypes["class_ids"]
    assert label_coding.logit_dtype == dtypes["logits"]
    assert label_coding.float_dtype == dtypes["max_logit"]


@pytest.mark.parametrize("coding", CODINGS)
def test_no_tail_stays_no_tail(coding: Coding) -> None:
    labels = make_labels(num_classes=8, k=8)

    assert round_trip(make_coding(coding, labels), labels).log_tail_BT.isneginf().all()


@pytest.mark.parametrize(("coding", "smallest"), [("float16", -LARGEST_FLOAT16), ("uint8", -65024.0)])
def test_a_tail_too_small_for_float16_is_still_a_tail(coding: Coding, smallest: float) -> None:
    labels = keep_top_k(torch.tensor([[0.0, -1e5]]), k=1, temperatures=(1.0,))

    assert round_trip(make_coding(coding, labels), labels).log_tail_BT.item() == smallest


@given(labels_of_any_shape())
def test_uint8_keeps_7_significant_bits_of_softmax_tails(labels: SoftLabels) -> None:
    decoded = round_trip(make_coding("uint8", labels), labels)

    found, exact = decoded.log_tail_BT, labels.log_tail_BT
    bits = 7 if labels.head == "softmax" else 11
    assert (found.half().view(torch.int16) & ((1 << (11 - bits)) - 1)).eq(0).all()
    assert found.isneginf().equal(exact.isneginf())
    rounding = exact.abs() * (2**-bits + 2**-11) + 2**-20  # float16 holds numbers below 2^-14 in even steps
    assert ((found - exact).abs() <= rounding).where(exact.isfinite(), True).all()


@given(labels_of_any_shape())
def test_uint8_rounds_the_largest_logit_to_whole_steps_like_the_others(labels: SoftLabels) -> None:
    decoded = round_trip(make_coding("uint8", labels), labels)

    rounding = GAP_STEP / 2 + labels.max_logit_B.abs() * 2**-11  # and float16's own
    assert ((decoded.max_logit_B - labels.max_logit_B).abs() <= rounding).all()


@pytest.mark.parametrize("coding", ["float16", "uint8"])
@pytest.mark.parametrize(
    ("largest", "told"),
    [
        (65_536.0, "a logit of 65536 doesn't fit float16 (at most 65504). Store with `dump.coding = float32`."),
        (-1e6, "the largest logit of a row is -1e+06: all of its classes are masked, and it tells nothing."),
    ],
)
def test_a_largest_logit_beyond_float16_is_refused(coding: Coding, largest: float, told: str) -> None:
    labels = keep_top_k(torch.tensor([[largest, largest - 1]]), k=1)

    with pytest.raises(TeacherError, match=re.escape(told)):
        make_coding(coding, labels).encode(labels)


def test_float32_holds_a_logit_beyond_float16() -> None:
    labels = keep_top_k(torch.tensor([[1e6, 0.0]]), k=2)

    decoded = round_trip(make_coding("float32", labels), labels)

    assert decoded.max_logit_B.tolist() == [1e6]
    assert decoded.logits_BK.tolist() == [[0.0, -1e6]]


def test_kept_logits_beyond_float16_are_clipped_and_counted() -> None:
    labels = labels_with_logits(np.array([[100, 0, -1e5, -2e5]], dtype=np.float32))
    coding = make_coding("float16", labels)

    arrays = coding.encode(labels)

    assert coding.decode(arrays).logits_BK.tolist() == [[0.0, -100.0, -LARGEST_FLOAT16, -LARGEST_FLOAT16]]
    assert coding.count_clipped(labels, arrays) == 2


@pytest.mark.parametrize("coding", CODINGS)
def test_arrays_are_decoded_wherever_they_lie(coding: Coding) -> None:
    """Rows of a row cache are read-only, and their fields lie between those of other rows."""
    labels = make_labels()
    label_coding = make_coding(coding, labels)
    apart = {name: np.repeat(array, 2, axis=0)[::2] for name, array in label_coding.encode(labels).items()}
    for array in apart.values():
        array.flags.writeable = False

    decoded = label_coding.decode(apart)

    expected = round_trip(label_coding, labels)
    assert torch.equal(decoded.class_ids_BK, expected.class_ids_BK)
    assert torch.equal(decoded.logits_BK, expected.logits_BK)
    assert torch.equal(decoded.log_tail_BT, expected.log_tail_BT)
    assert torch.equal(decoded.max_logit_B, expected.max_logit_B)

import dataclasses
import math
import re
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from softlab.errors import InvalidOption
from softlab.labels.selection import keep_top_k, sorted_temperatures
from softlab.labels.soft_labels import SoftLabels

# Shape letters: B rows in a batch, C classes, K entries kept (K <= C), T temperatures.

TEMPERATURES = (0.5, 1.0, 2.0, 4.0, 20.0)


@dataclass(frozen=True)
class Teacher:
    """What a teacher said, and how many of its classes to keep."""

    logits_BC: Tensor
    k: int


@st.composite
def teachers(draw: st.DrawFn) -> Teacher:
    """Flat to extremely peaked, around 0 or far from it, with many equal logits or with none."""
    num_classes = draw(st.integers(1, 40))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    unit_BC = torch.randn(draw(st.integers(1, 4)), num_classes, generator=generator)
    logits_BC = unit_BC * draw(st.sampled_from([1e-3, 1.0, 10.0, 1e4])) + draw(st.sampled_from([0.0, -300.0, 1e4]))
    if draw(st.booleans()):
        logits_BC = logits_BC.round()
    return Teacher(logits_BC, k=draw(st.integers(1, num_classes) | st.just(num_classes)))


def exact_log_tails(logits_BC: Tensor, class_ids_BK: Tensor, temperatures: tuple[float, ...]) -> Tensor:
    """float64 [B, T], from the dense distribution."""
    columns = []
    for temperature in temperatures:
        dense_BC = torch.log_softmax(logits_BC.double() / temperature, dim=1)
        columns.append(dense_BC.scatter(1, class_ids_BK, -math.inf).logsumexp(dim=1))
    return torch.stack(columns, dim=1)


@given(teachers())
def test_the_largest_logits_are_kept_in_descending_order(teacher: Teacher) -> None:
    labels = keep_top_k(teacher.logits_BC, k=teacher.k)

    sorted_BC = np.sort(teacher.logits_BC.double().numpy(), axis=1)[:, ::-1]
    kept_BK = teacher.logits_BC.gather(1, labels.class_ids_BK).double().numpy()
    np.testing.assert_array_equal(kept_BK, sorted_BC[:, : teacher.k])
    np.testing.assert_array_equal(labels.max_logit_B, sorted_BC[:, 0])
    np.testing.assert_array_equal(labels.logits_BK, (kept_BK - sorted_BC[:, :1]).astype(np.float32))
    assert all(len(set(row)) == teacher.k for row in labels.class_ids_BK.tolist())


@given(teachers())
def test_equal_logits_stand_in_the_order_of_their_class_ids(teacher: Teacher) -> None:
    labels = keep_top_k(teacher.logits_BC, k=teacher.k)

    for logits, ids in zip(labels.logits_BK.tolist(), labels.class_ids_BK.tolist(), strict=True):
        ranks = [(-logit, class_id) for logit, class_id in zip(logits, ids, strict=True)]
        assert ranks == sorted(ranks)


def test_the_order_of_a_long_row_of_equal_logits_is_that_of_its_classes() -> None:
    labels = keep_top_k(torch.zeros(2, 5000), k=5000)

    assert torch.equal(labels.class_ids_BK, torch.arange(5000).expand(2, -1))


@given(teachers())
def test_the_tail_is_exact_at_every_temperature(teacher: Teacher) -> None:
    labels = keep_top_k(teacher.logits_BC, k=teacher.k, temperatures=TEMPERATURES)

    exact_BT = exact_log_tails(teacher.logits_BC, labels.class_ids_BK, TEMPERATURES)
    torch.testing.assert_close(labels.log_tail_BT.double(), exact_BT, rtol=1e-6, atol=1e-6)


@given(teachers())
def test_a_tail_is_never_more_than_everything(teacher: Teacher) -> None:
    labels = keep_top_k(teacher.logits_BC, k=teacher.k, temperatures=TEMPERATURES)

    assert (labels.log_tail_BT <= 0).all()
    assert not labels.log_tail_BT.isnan().any()


def test_a_tiny_tail_keeps_its_digits() -> None:
    logits_BC = torch.tensor([[0.0, math.log(1e-30), math.log(2e-30)]], dtype=torch.float64)

    labels = keep_top_k(logits_BC, k=1, temperatures=(1.0,))

    assert labels.log_tail_BT.item() == pytest.approx(math.log(3e-30), rel=1e-7)


def test_a_tiny_head_keeps_its_digits_however_large_the_logits() -> None:
    """As a difference of log-sum-exps at 1000, the tail of a flat teacher came out as exactly 1."""
    logits_BC = 1000 + 0.01 * torch.randn(4, 20_000, generator=torch.Generator().manual_seed(0))

    labels = keep_top_k(logits_BC, k=1, temperatures=(1.0,))

    head_B1 = torch.softmax(logits_BC.double(), dim=1).max(dim=1, keepdim=True).values
    torch.testing.assert_close(-torch.expm1(labels.log_tail_BT.double()), head_B1, rtol=1e-5, atol=0)


def test_nothing_is_left_out_where_all_classes_are_kept() -> None:
    labels = keep_top_k(torch.tensor([[3.0, 1.0, 2.0]]), k=3, temperatures=(1.0, 4.0))

    assert labels.log_tail_BT.tolist() == [[-math.inf, -math.inf]]
    assert labels.class_ids_BK.tolist() == [[0, 2, 1]]
    assert labels.logits_BK.tolist() == [[0.0, -1.0, -2.0]]


@given(teachers())
def test_under_a_sigmoid_head_the_tail_is_the_mean_probability_outside(teacher: Teacher) -> None:
    labels = keep_top_k(teacher.logits_BC, k=teacher.k, temperatures=TEMPERATURES, head="sigmoid")

    num_tail = teacher.logits_BC.shape[1] - teacher.k
    for temperature, log_tail_B in zip(TEMPERATURES, labels.log_tail_BT.unbind(1), strict=True):
        log_p_BC = torch.nn.functional.logsigmoid(teacher.logits_BC.double() / temperature)
        log_sum_B = log_p_BC.scatter(1, labels.class_ids_BK, -math.inf).logsumexp(dim=1)
        exact_B = log_sum_B - math.log(num_tail) if num_tail else log_sum_B
        torch.testing.assert_close(log_tail_B.double(), exact_B, rtol=1e-6, atol=1e-6)
    assert (labels.log_tail_BT <= 0).all()


@given(teachers())
def test_a_head_changes_nothing_but_the_tail(teacher: Teacher) -> None:
    sigmoid = keep_top_k(teacher.logits_BC, k=teacher.k, head="sigmoid")

    softmax = keep_top_k(teacher.logits_BC, k=teacher.k)
    assert_same(dataclasses.replace(sigmoid, log_tail_BT=softmax.log_tail_BT), softmax)
    assert (sigmoid.head, softmax.head) == ("sigmoid", "softmax")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@given(teacher=teachers())
def test_other_float_types_are_worked_out_in_float32(dtype: torch.dtype, teacher: Teacher) -> None:
    logits_BC = teacher.logits_BC.to(dtype)

    labels = keep_top_k(logits_BC, k=teacher.k)

    assert_same(labels, keep_top_k(logits_BC.float(), k=teacher.k))
    assert {labels.logits_BK.dtype, labels.log_tail_BT.dtype, labels.max_logit_B.dtype} == {torch.float32}
    assert labels.class_ids_BK.dtype == torch.int64


def assert_same(labels: SoftLabels, expected: SoftLabels) -> None:
    assert torch.equal(labels.class_ids_BK, expected.class_ids_BK)
    assert torch.equal(labels.logits_BK, expected.logits_BK)
    assert torch.equal(labels.max_logit_B, expected.max_logit_B)
    assert torch.equal(labels.log_tail_BT, expected.log_tail_BT)


def test_the_logits_are_left_as_they_were() -> None:
    logits_BC = torch.randn(3, 9, generator=torch.Generator().manual_seed(0))
    before_BC = logits_BC.clone()

    keep_top_k(logits_BC, k=4)

    assert torch.equal(logits_BC, before_BC)


def test_a_row_does_not_depend_on_the_others_of_its_batch() -> None:
    logits_BC = torch.randn(5, 300, generator=torch.Generator().manual_seed(0))

    labels = keep_top_k(logits_BC, k=7)

    for row in range(5):
        alone = keep_top_k(logits_BC[row : row + 1], k=7)
        assert torch.equal(labels.class_ids_BK[row], alone.class_ids_BK[0])
        torch.testing.assert_close(labels.log_tail_BT[row], alone.log_tail_BT[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("k", [0, -1, 11])
def test_k_beyond_the_classes_is_refused(k: int) -> None:
    with pytest.raises(InvalidOption, match=re.escape("Choose `dump.k` from 1 to 10.")):
        keep_top_k(torch.zeros(1, 10), k=k)


@pytest.mark.parametrize("temperatures", [(), (0.0,), (1.0, -2.0), (math.inf,), (math.nan,)])
def test_a_temperature_that_is_no_positive_number_is_refused(temperatures: tuple[float, ...]) -> None:
    with pytest.raises(InvalidOption, match=r"as in `dump\.temperature = \[1, 4\]`"):
        keep_top_k(torch.zeros(1, 10), k=1, temperatures=temperatures)


def test_temperatures_ascend_without_repeats() -> None:
    assert sorted_temperatures([4, 1.0, 2, 1]) == (1.0, 2.0, 4.0)
    assert keep_top_k(torch.zeros(1, 3), k=1, temperatures=(4, 1)).temperatures == (1.0, 4.0)


@pytest.mark.gpu
def test_a_gpu_keeps_the_same_classes_and_values() -> None:
    logits_BC = torch.randn(256, 1000, generator=torch.Generator().manual_seed(0)) * 3

    labels = keep_top_k(logits_BC.cuda(), k=16)

    expected = keep_top_k(logits_BC, k=16)
    assert labels.log_tail_BT.device.type == "cuda"
    assert torch.equal(labels.class_ids_BK.cpu(), expected.class_ids_BK)
    assert torch.equal(labels.logits_BK.cpu(), expected.logits_BK)
    torch.testing.assert_close(labels.log_tail_BT.cpu(), expected.log_tail_BT, rtol=1e-6, atol=1e-6)

"""Labels that were read together, for several batches."""

import pickle
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from softlab.labels.losses import LossName, Tail, decision_loss, distillation_loss
from softlab.labels.selection import keep_top_k
from softlab.labels.soft_labels import SoftLabels
from tests.labels.losses.lessons import loss_with

# Shape letters: N rows read together, B rows in a batch, C classes.

NUM_CLASSES = 12


def make_labels(rows: int, *, k: int = 4) -> SoftLabels:
    logits_NC = 3 * torch.randn(rows, NUM_CLASSES, generator=torch.Generator().manual_seed(rows))
    return keep_top_k(logits_NC, k=k, temperatures=(1.0, 2.0))


def make_student(rows: int) -> Tensor:
    return torch.randn(rows, NUM_CLASSES, generator=torch.Generator().manual_seed(1)).requires_grad_()


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6))
def test_parts_are_the_rows_in_their_order(sizes: list[int]) -> None:
    whole = make_labels(sum(sizes))

    parts = whole.split(sizes)

    assert [len(part) for part in parts] == sizes
    for tensors, expected in zip(zip(*(part.tensors() for part in parts), strict=True), whole.tensors(), strict=True):
        assert torch.cat(tensors).equal(expected)
    assert {(part.num_classes, part.temperatures, part.head) for part in parts} == {(12, (1.0, 2.0), "softmax")}


@pytest.mark.parametrize("name", [name for name in get_args(LossName) if name not in ("bce", "dkd")])
def test_every_loss_of_a_part_is_that_of_its_rows_by_themselves(name: LossName) -> None:
    options, (first, second) = loss_with(name, temperature=2.0), make_labels(7).split([3, 4])
    for part in (second, first, second):
        student_BC, alone_BC = make_student(len(part)), make_student(len(part))

        loss = decision_loss(student_BC, part, options=options)
        loss.backward()  # type: ignore[no-untyped-call]

        expected = decision_loss(alone_BC, part.alone(), options=options)
        expected.backward()  # type: ignore[no-untyped-call]
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(student_BC.grad, alone_BC.grad)


@pytest.mark.parametrize("k", [4, NUM_CLASSES])
def test_students_with_other_temperatures_and_tails_get_each_their_own(k: int) -> None:
    first, second = make_labels(6, k=k).split([3, 3])
    wanted: list[tuple[float, Tail]] = [(1.0, "uniform"), (2.0, "uniform"), (1.0, "renormalise"), (2.0, "bucket")]
    for part in (first, second):
        for temperature, tail in wanted:
            loss = distillation_loss(make_student(3), part, temperature=temperature, tail=tail)

            alone = distillation_loss(make_student(3), part.alone(), temperature=temperature, tail=tail)
            torch.testing.assert_close(loss, alone)


def test_what_the_teacher_alone_decides_is_computed_once_for_all_parts() -> None:
    parts, calls = make_labels(6).split([2, 2, 2]), []

    def make(labels: SoftLabels) -> SoftLabels:
        calls.append(len(labels))
        return labels

    made = [part.once_for_all("same", make) for part in parts for _ in range(2)]

    assert calls == [6]
    assert [labels.class_ids_BK.tolist() for labels in made[::2]] == [part.class_ids_BK.tolist() for part in parts]
    parts[0].once_for_all("other", make)
    assert calls == [6, 6]


def test_labels_that_are_no_part_are_computed_by_themselves() -> None:
    labels = make_labels(3)

    assert labels.once_for_all("same", lambda given: given) is labels
    assert labels.split([3])[0].alone().once_for_all("same", lambda given: given).block is None


def test_a_part_on_another_device_or_sent_elsewhere_has_its_own_rows() -> None:
    part = make_labels(5).split([2, 3])[1]

    assert part.to("meta").block is None
    assert pickle.loads(pickle.dumps(part)).class_ids_BK.equal(part.class_ids_BK)

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from softlab.errors import InterpolatedTail, StoreMismatch
from softlab.labels.ensembles import WeighBy, combine, weigh
from softlab.labels.losses import KlLoss, decision_loss
from softlab.labels.selection import keep_top_k
from softlab.labels.soft_labels import SoftLabels
from tests.labels.losses.lessons import dense_log_probabilities
from tests.labels.panels import Panel, panels

# Shape letters: B rows in a batch, S teachers, C classes.

GIVEN = st.lists(st.sampled_from([0.0, 0.1, 0.5, 1.0]), min_size=4, max_size=4)


def normalised(weights_BS: Tensor) -> Tensor:
    return weights_BS / weights_BS.sum(dim=1, keepdim=True)


def given_for(panel: Panel, drawn: list[float]) -> list[float]:
    """As many as there are teachers, the last one never 0."""
    return [*drawn[: len(panel.labels) - 1], 0.7]


def says(*class_ids: int, num_classes: int = 4) -> SoftLabels:
    """A teacher whose first class in each row is the named one."""
    return keep_top_k(5 * torch.nn.functional.one_hot(torch.tensor(class_ids), num_classes).float(), k=2)


# As given.


@given(panel=panels(), drawn=GIVEN)
def test_given_weights_are_those_of_every_row(panel: Panel, drawn: list[float]) -> None:
    given = given_for(panel, drawn)

    found_BS = weigh(panel.labels, given=given, by="given")

    expected_BS = normalised(torch.tensor([given]).double()).expand(len(panel.targets_B), -1)
    assert_close(found_BS.double(), expected_BS, rtol=1e-6, atol=0)
    assert found_BS.dtype == torch.float32


def test_weights_that_sum_to_1_stay_what_they_are() -> None:
    assert_close(weigh([says(0)] * 3, given=(0.5, 0.2, 0.3), by="given"), torch.tensor([[0.5, 0.2, 0.3]]))


# By confidence.


@given(panel=panels(), drawn=GIVEN)
def test_by_confidence_they_are_the_given_ones_times_the_probability_of_the_first_class(
    panel: Panel, drawn: list[float]
) -> None:
    given = given_for(panel, drawn)

    found_BS = weigh(panel.labels, given=given, by="confidence")

    p_SBC = torch.stack([dense_log_probabilities(each, temperature=1.0, tail="uniform").exp() for each in panel.labels])
    firsts = [p_BC.gather(1, each.class_ids_BK[:, :1]) for p_BC, each in zip(p_SBC, panel.labels, strict=True)]
    expected_BS = normalised(torch.tensor([given]).double() * torch.cat(firsts, dim=1))
    assert_close(found_BS.double(), expected_BS, rtol=1e-5, atol=0)


def test_confidences_are_compared_at_one_temperature() -> None:
    """Two teachers that say the same are as confident, whatever temperatures their stores hold."""
    logits_BC = torch.tensor([[3.0, 1.0, 0.0, 0.0]])
    one = keep_top_k(logits_BC, k=2, temperatures=(1.0, 2.0, 4.0))
    other = keep_top_k(logits_BC, k=2, temperatures=(2.0, 4.0))
    whole = keep_top_k(logits_BC, k=4, temperatures=(4.0,))

    found_BS = weigh([one, other, whole], given=(1.0, 1.0, 1.0), by="confidence")

    assert_close(found_BS, torch.full((1, 3), 1 / 3))


def test_without_a_tail_confidences_are_those_at_temperature_1() -> None:
    sure = keep_top_k(torch.tensor([[3.0, 0.0]]), k=2, temperatures=(4.0,))
    unsure = keep_top_k(torch.tensor([[0.0, 0.0]]), k=2, temperatures=(2.0,))

    found_BS = weigh([sure, unsure], given=(0.5, 0.5), by="confidence")

    p = 1 / (1 + math.exp(-3))
    assert found_BS[0].tolist() == pytest.approx([p / (p + 0.5), 0.5 / (p + 0.5)])


def test_a_confidence_at_a_temperature_that_is_not_stored_is_interpolated_with_a_warning() -> None:
    labels = keep_top_k(torch.tensor([[3.0, 1.0, 0.0, 0.0]]), k=2, temperatures=(0.5, 2.0))

    with pytest.warns(InterpolatedTail, match="temperature 1 is not stored"):
        weigh([labels, labels], given=(0.5, 0.5), by="confidence")


# By correctness.


@given(panel=panels(), drawn=GIVEN)
def test_by_correctness_they_are_the_given_ones_of_the_teachers_that_are_right(
    panel: Panel, drawn: list[float]
) -> None:
    given = given_for(panel, drawn)

    found_BS = weigh(panel.labels, given=given, by="correctness", targets_B=panel.targets_B)

    for row, target in enumerate(panel.targets_B.tolist()):
        firsts = [int(each.class_ids_BK[row, 0]) for each in panel.labels]
        right = [share if first == target else 0 for share, first in zip(given, firsts, strict=True)]
        counted = right if sum(right) else given
        assert found_BS[row].tolist() == pytest.approx([share / sum(counted) for share in counted], rel=1e-5)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        pytest.param(0, [0.75, 0.25, 0.0], id="two are right"),
        pytest.param(1, [0.0, 0.0, 1.0], id="one is right"),
        pytest.param(3, [0.6, 0.2, 0.2], id="none is right"),
        pytest.param(-1, [0.6, 0.2, 0.2], id="nobody knows"),
        pytest.param(99, [0.6, 0.2, 0.2], id="a class that the teachers lack"),
    ],
)
def test_only_teachers_that_are_right_count_where_any_is(target: int, expected: list[float]) -> None:
    labels = [says(0), says(0), says(1)]

    found_BS = weigh(labels, given=(0.6, 0.2, 0.2), by="correctness", targets_B=torch.tensor([target]))

    assert found_BS[0].tolist() == pytest.approx(expected)


def test_where_only_a_teacher_of_weight_0_is_right_all_others_count() -> None:
    labels = [says(0), says(1), says(2)]

    found_BS = weigh(labels, given=(0.6, 0.4, 0.0), by="correctness", targets_B=torch.tensor([2]))

    assert found_BS[0].tolist() == pytest.approx([0.6, 0.4, 0.0])


def test_correctness_without_targets_is_refused() -> None:
    with pytest.raises(StoreMismatch) as caught:
        weigh([says(0), says(1)], given=(0.5, 0.5), by="correctness")
    assert str(caught.value) == (
        "teachers can't be weighed by correctness without hard targets. Give a source that has them (class "
        "folders, or a Parquet file whose column of labels is named), or weigh by confidence."
    )


# Together with `combine`.


def test_a_row_with_one_right_teacher_is_learnt_from_it_alone() -> None:
    labels = [says(0, 1), says(1, 2)]
    targets_B = torch.tensor([0, 2])
    options = KlLoss(temperature=2.0)

    weights_BS = weigh(labels, given=(0.5, 0.5), by="correctness", targets_B=targets_B)
    combined = combine(labels, weights_BS, by="probabilities", temperature=2.0)

    student_BC = torch.tensor([[1.0, 2.0, 0.0, 3.0], [0.0, 1.0, -1.0, 2.0]])
    expected = torch.stack(
        [decision_loss(student_BC[row : row + 1], _row(each, row), options=options) for row, each in enumerate(labels)]
    ).mean()
    assert_close(decision_loss(student_BC, combined, options=options), expected)


def _row(labels: SoftLabels, row: int) -> SoftLabels:
    return replace(
        labels,
        class_ids_BK=labels.class_ids_BK[row : row + 1],
        logits_BK=labels.logits_BK[row : row + 1],
        log_tail_BT=labels.log_tail_BT[row : row + 1],
        max_logit_B=labels.max_logit_B[row : row + 1],
    )


@pytest.mark.parametrize("by", ["given", "confidence", "correctness"])
def test_weights_are_on_the_labels_own_device(by: WeighBy) -> None:
    labels = [says(0, 1).to("meta"), says(1, 2).to("meta")]

    found_BS = weigh(labels, given=(0.5, 0.5), by=by, targets_B=torch.tensor([0, 1]).to("meta"))

    assert found_BS.is_meta


@pytest.mark.gpu
@pytest.mark.parametrize("by", ["given", "confidence", "correctness"])
def test_weights_are_the_same_on_a_gpu(by: WeighBy) -> None:
    labels, targets_B = [says(0, 1), says(1, 2)], torch.tensor([0, -1])

    found_BS = weigh([each.to("cuda") for each in labels], given=(0.3, 0.7), by=by, targets_B=targets_B.cuda())

    assert_close(found_BS.cpu(), weigh(labels, given=(0.3, 0.7), by=by, targets_B=targets_B))

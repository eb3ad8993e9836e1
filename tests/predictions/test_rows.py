"""Numbers become logits or log-probabilities, exactly; what they can't be is refused by key."""

# Shape letters: N rows, C classes, K entries of a row.

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from softlab.errors import InvalidOption, SoftlabError
from softlab.labels.losses import distillation_loss
from softlab.labels.losses.logit_mse import logit_mse_loss
from softlab.labels.selection import keep_top_k
from softlab.predictions.columns import columns_of
from softlab.predictions.options import PredictionOptions
from softlab.predictions.rows import LOWEST, PredictedRows, rows_of
from tests.predictions.files import probabilities

N = 6
P_NC = probabilities(N, num_classes=8)


def make(arrays: dict[str, Any], *, head: Any = "softmax", **options: Any) -> PredictedRows:
    keys = [f"k{row}" for row in range(len(next(iter(arrays.values()))))]
    given = PredictionOptions(**options)
    return rows_of(columns_of({"key": keys, **arrays}, given, where="p.npz"), given, head=head)


def softmax_of(rows: PredictedRows) -> NDArray[np.float64]:
    return torch.from_numpy(rows.numbers).double().softmax(dim=1).numpy()


@pytest.mark.parametrize("kind", ["probabilities", "log_probabilities", "votes"])
def test_the_softmax_of_what_is_stored_is_the_distribution_that_was_given(kind: str) -> None:
    counts_NC = np.random.default_rng(0).integers(0, 9, (N, 8)) + 1
    given = {"probabilities": P_NC, "log_probabilities": np.log(P_NC), "votes": counts_NC}[kind]
    expected = counts_NC / counts_NC.sum(axis=1, keepdims=True) if kind == "votes" else P_NC

    rows = make({kind: given})

    np.testing.assert_allclose(softmax_of(rows), expected, rtol=1e-6)
    assert not rows.is_absolute


def test_logits_are_as_they_were() -> None:
    logits_NC = np.random.default_rng(0).normal(0, 5, (N, 8)).astype(np.float32)

    rows = make({"logits": logits_NC})

    np.testing.assert_array_equal(rows.tensor(np.arange(N)).numpy(), logits_NC)
    assert rows.is_absolute


def test_a_class_without_any_probability_has_none_and_costs_a_student_nothing() -> None:
    votes_NC = np.array([[3, 1, 0, 0]])

    rows = make({"votes": votes_NC})
    labels = keep_top_k(rows.tensor(np.array([0])), k=4)
    student_BC = torch.randn(1, 4, generator=torch.manual_seed(0))

    assert rows.numbers[0, 2] == LOWEST
    assert "1 of 1 rows give some classes no probability at all" in rows.notes[0]
    p_C = torch.tensor([0.75, 0.25], dtype=torch.float64)
    expected = (p_C * (p_C.log() - student_BC.double().log_softmax(dim=1)[0, :2])).sum()
    torch.testing.assert_close(
        distillation_loss(student_BC, labels, temperature=1.0).double(), expected, rtol=1e-6, atol=0
    )


def test_probabilities_under_a_sigmoid_are_log_odds_with_a_level_of_their_own() -> None:
    p_NC = np.array([[0.9, 0.2, 0.5]])

    rows = make({"probabilities": p_NC}, head="sigmoid")

    np.testing.assert_allclose(rows.numbers, np.log(p_NC / (1 - p_NC)), rtol=1e-6, atol=1e-7)


def ranked(p_NC: NDArray[np.float64], *, k: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    ids_NK = np.argsort(-p_NC, axis=1)[:, :k]
    return ids_NK, np.take_along_axis(p_NC, ids_NK, axis=1)


@pytest.mark.parametrize("kind", ["probabilities", "log_probabilities"])
def test_of_the_likeliest_classes_the_rest_is_exact_at_temperature_one(kind: str) -> None:
    ids_NK, p_NK = ranked(P_NC, k=3)
    rows = make({"class_ids": ids_NK, kind: np.log(p_NK) if kind == "log_probabilities" else p_NK}, num_classes=8)

    labels = rows.labels(np.arange(N), k=3)

    expected = keep_top_k(torch.from_numpy(np.log(P_NC)), k=3, temperatures=[1.0])
    assert labels.class_ids_BK.tolist() == expected.class_ids_BK.tolist()
    torch.testing.assert_close(labels.logits_BK, expected.logits_BK, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(labels.log_tail_BT, expected.log_tail_BT, rtol=1e-5, atol=1e-6)
    student_BC = torch.randn(N, 8, generator=torch.manual_seed(0))
    loss, dense = (distillation_loss(student_BC, each, temperature=1.0) for each in (labels, expected))
    torch.testing.assert_close(loss, dense, rtol=1e-5, atol=1e-6)


def test_the_likeliest_classes_tell_nothing_at_another_temperature() -> None:
    ids_NK, p_NK = ranked(P_NC, k=3)
    labels = make({"class_ids": ids_NK, "probabilities": p_NK}, num_classes=8).labels(np.arange(N), k=3)
    student_BC = torch.zeros(N, 8)

    with pytest.raises(InvalidOption, match="of this teacher only the probabilities of 3 of 8 classes are known"):
        distillation_loss(student_BC, labels, temperature=2.0)
    with pytest.raises(SoftlabError, match="only probabilities are known"):
        logit_mse_loss(student_BC, labels)


def test_fewer_entries_in_some_rows_bound_those_of_all() -> None:
    ids_NK, p_NK = ranked(P_NC, k=3)
    ids_NK[2, 2], p_NK[2, 2] = -1, 0

    rows = make({"class_ids": ids_NK, "probabilities": p_NK}, num_classes=8)

    assert rows.numbers.shape == (N, 2)
    assert "K = 2, as some rows tell no more classes (that of the key 'k2')" in rows.notes[0]


def changed(array: NDArray[Any], row: int, values: Any) -> NDArray[Any]:
    copy = array.copy()
    copy[row] = values
    return copy


NAN_ROW = [np.nan] + [0.0] * 7
IDS, P_TOP = ranked(P_NC, k=3)


@pytest.mark.parametrize(
    ("arrays", "found"),
    [
        (
            {"probabilities": changed(P_NC, 3, P_NC[3] / 2)},
            "1 row whose probabilities don't sum to 1, such as that of the key 'k3'",
        ),
        ({"probabilities": changed(P_NC, 0, -P_NC[0])}, "with probabilities below 0"),
        ({"probabilities": 100 * P_NC}, "6 rows whose probabilities don't sum to 1"),
        (
            {"log_probabilities": changed(np.log(P_NC), 2, 1.0)},
            "with log-probabilities above 0, such as that of the key 'k2'",
        ),
        ({"log_probabilities": changed(np.log(P_NC), 2, -9.0)}, "whose probabilities don't sum to 1"),
        ({"logits": changed(P_NC, 1, NAN_ROW)}, "with NaN, such as that of the key 'k1'"),
        ({"logits": changed(P_NC, 1, np.inf)}, "with an infinite number"),
        (
            {"votes": changed(np.ones((N, 4)), 4, 0)},
            "without a vote, or with a part of one, such as that of the key 'k4'",
        ),
        ({"votes": np.full((N, 4), 0.25)}, "without a vote, or with a part of one"),
        ({"values": changed(P_NC, 5, np.inf)}, "with values that are NaN or infinite, such as that of the key 'k5'"),
        ({"logits": np.zeros((N, 2, 3))}, "expected [rows, classes]"),
        ({"class_ids": changed(IDS, 1, [1, 8, 2]), "probabilities": P_TOP}, "with a class id that isn't in 0..7"),
        (
            {"class_ids": changed(IDS, 1, [1, 2, 1]), "probabilities": P_TOP},
            "with a class twice, such as that of the key 'k1'",
        ),
        ({"class_ids": IDS, "probabilities": P_TOP[:, ::-1]}, "whose classes don't stand with the likeliest first"),
        ({"class_ids": IDS, "probabilities": changed(P_TOP, 0, [0.9, 0.8, 0.7])}, "sum to more than 1"),
        (
            {"class_ids": IDS, "log_probabilities": changed(np.log(P_TOP), 0, 0.5)},
            "are above 0, or stand for more than 1",
        ),
        ({"class_ids": IDS, "log_probabilities": changed(np.log(P_TOP), 0, np.nan)}, "with NaN or infinite numbers"),
        ({"class_ids": changed(IDS, 2, -1), "probabilities": P_TOP}, "without a class, such as that of the key 'k2'"),
        ({"class_ids": IDS, "logits": P_TOP}, "and logits of a softmax head don't"),
        ({"class_ids": IDS[:, :2], "probabilities": P_TOP}, "have other shapes"),
    ],
)
def test_numbers_that_can_not_be_what_they_are_said_to_be_are_refused(arrays: dict[str, Any], found: str) -> None:
    with pytest.raises(SoftlabError) as refused:
        make(arrays, num_classes=8)

    assert found in str(refused.value)
    assert str(refused.value).startswith("p.npz: ")


def test_the_number_of_classes_must_be_known_of_the_likeliest_ones() -> None:
    with pytest.raises(InvalidOption, match=r"Say `predictions\.num_classes`"):
        make({"class_ids": IDS, "probabilities": P_TOP})


def test_names_must_be_as_many_as_classes() -> None:
    with pytest.raises(InvalidOption, match="has 8 classes, but there are 2 class names"):
        make({"probabilities": P_NC, "class_names": np.array(["a", "b"])})

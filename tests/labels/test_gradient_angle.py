# Shape letters: N rows, C classes.

import pytest
import torch
from torch import Tensor

from softlab.labels.gradient_angle import KEPT_OF_MANY, MOST_DEGREES, gradient_angle, k_for_many


def random_logits(num_rows: int, num_classes: int, *, scale: float) -> Tensor:
    return scale * torch.randn(num_rows, num_classes, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def traced_gradient(teacher_NC: Tensor) -> Tensor:
    """Of KL(teacher || student) to the logits of a student that says the same of all classes."""
    logits_NC = torch.zeros_like(teacher_NC, requires_grad=True)
    loss = -(teacher_NC * logits_NC.log_softmax(dim=1)).sum()
    return torch.autograd.grad(loss, logits_NC)[0]


@pytest.mark.parametrize("scale", [0.5, 3.0])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_it_is_the_angle_between_two_traced_gradients(scale: float, temperature: float) -> None:
    logits_NC = random_logits(30, 40, scale=scale)

    angle_K = gradient_angle(logits_NC, temperatures=[temperature])[:, 0]

    share_NC = (logits_NC / temperature).softmax(dim=1)
    for k in (1, 7, 39):
        kept = share_NC.topk(k, dim=1)
        tail_N1 = (1 - kept.values.sum(dim=1, keepdim=True)) / (40 - k)
        stored_NC = tail_N1.expand(-1, 40).scatter(1, kept.indices, kept.values)
        one, other = traced_gradient(share_NC).flatten(), traced_gradient(stored_NC).flatten()
        expected = torch.rad2deg(torch.arccos((one @ other / (one.norm() * other.norm())).clamp(max=1)))
        assert angle_K[k - 1].item() == pytest.approx(expected.item(), abs=1e-4)
    assert angle_K[-1] == 0


def test_more_classes_turn_it_less_and_a_higher_temperature_more() -> None:
    angle_KT = gradient_angle(random_logits(50, 1000, scale=2.5), temperatures=[1.0, 4.0])

    assert (angle_KT.diff(dim=0) <= 1e-9).all()
    assert angle_KT[15, 1] > angle_KT[15, 0]


def test_of_rows_that_are_near_uniform_it_is_unknown_but_for_all_classes() -> None:
    for logits_NC in (torch.zeros(30, 40), random_logits(30, 40, scale=1e-5)):
        angle_KT = gradient_angle(logits_NC, temperatures=[1.0, 4.0])

        assert angle_KT[:-1].isnan().all()
        assert angle_KT[-1].tolist() == [0, 0]


@pytest.mark.parametrize("scale", [8.0, 2.6, 2.2, 0.01])
def test_of_many_classes_the_fewest_are_kept_that_are_good_enough(scale: float) -> None:
    logits_NC = random_logits(200, 1000, scale=scale)

    k = k_for_many(logits_NC, temperature=1.0)

    angle_K = gradient_angle(logits_NC, temperatures=[1.0])[:, 0]
    fewer = [each for each in KEPT_OF_MANY if each < k]
    assert all(angle_K[each - 1] > MOST_DEGREES for each in fewer)
    assert angle_K[k - 1] <= MOST_DEGREES or k == KEPT_OF_MANY[-1]


def test_confident_teachers_keep_16_and_those_that_say_nothing_the_most() -> None:
    assert k_for_many(random_logits(200, 1000, scale=8.0), temperature=1.0) == 16
    assert k_for_many(random_logits(200, 1000, scale=0.01), temperature=1.0) == 128

"""Accuracy on samples that are changed so that the model errs, against plain code in units of pixels."""

# Shape letters: N images, C classes.

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import softlab
from softlab.errors import InvalidOption
from softlab.evaluation.attack import AttackOptions
from softlab.evaluation.evaluation import Evaluation
from softlab.modalities.images.inputs import ImageInput
from softlab.models.device import DeviceOptions
from softlab.sources.source import Source
from tests.sources.pictures import image_of
from tests.teacher.dumping import NUM_CLASSES, Pictures, make_teacher

INPUT = ImageInput(mean=(0.2, 0.5, 0.7), std=(0.2, 0.3, 0.9))
ATTACK = AttackOptions(epsilon=0.002, steps=20)
MODEL = make_teacher(seed=1).double().eval()


def pixels_of(source: Pictures) -> Tensor:
    return torch.stack([image_of(source, number) for number in range(len(source))]).double() / 255


def logits_of(pixels_NCHW: Tensor) -> Tensor:
    mean, std = (torch.tensor(values, dtype=torch.float64)[:, None, None] for values in (INPUT.mean, INPUT.std))
    logits_NC: Tensor = MODEL((pixels_NCHW - mean) / std)
    return logits_NC


def known_pictures() -> Pictures:
    """The targets are mostly what the model says."""
    source = Pictures(count=40)
    targets_N = logits_of(pixels_of(source)).argmax(dim=1).numpy().copy()
    targets_N[:6] = (targets_N[:6] + 1) % NUM_CLASSES
    targets_N[6:10] = -1
    return replace(source, targets_N=targets_N)


def measure(source: Source, *, model: nn.Module = MODEL, input: Any = INPUT, **options: Any) -> Evaluation:
    return softlab.evaluate_model(
        model,
        source,
        input=input,
        options=softlab.EvaluateOptions(batch_size=40, **options),
        device=DeviceOptions(name="cpu"),
    )


def plain_pgd(source: Pictures, attack: AttackOptions) -> float:
    """Madry et al. (2018): from a random start, projected steps along the sign of the gradient."""
    clean, targets_N = pixels_of(source), torch.from_numpy(source.targets_N)
    start = 2 * torch.rand(clean.shape, generator=torch.Generator().manual_seed(0)).double() - 1
    lowest, highest = (clean - attack.epsilon).clamp(0, 1), (clean + attack.epsilon).clamp(0, 1)
    found = torch.clamp(clean + start * attack.epsilon, lowest, highest)
    for _ in range(attack.steps):
        found = found.detach().requires_grad_()
        loss = functional.cross_entropy(logits_of(found), targets_N, ignore_index=-1)
        (gradient,) = torch.autograd.grad(loss, [found])
        found = torch.clamp(found + attack.epsilon / 4 * gradient.sign(), lowest, highest)
    is_right_N = logits_of(found).argmax(dim=1) == targets_N
    return float(is_right_N[targets_N >= 0].double().mean())


@pytest.mark.parametrize("epsilon", [0.001, 0.004, 0.016])
def test_it_is_that_of_plain_projected_gradient_descent(epsilon: float) -> None:
    attack, source = replace(ATTACK, epsilon=epsilon), known_pictures()

    found = measure(source, robust=attack).values

    assert found["accuracy"] == pytest.approx(30 / 36)
    assert found["robust_accuracy"] == pytest.approx(plain_pgd(source, attack))
    assert found["robust_accuracy"] < found["accuracy"]


def test_all_else_is_as_without_an_attack_and_it_is_the_same_each_time() -> None:
    source = known_pictures()
    once, plain = measure(source, robust=ATTACK), measure(source)

    assert measure(source, robust=ATTACK) == once
    assert {name: value for name, value in once.values.items() if name != "robust_accuracy"} == plain.values
    assert list(once.values).index("robust_accuracy") == list(once.values).index("calibration_error") + 1
    assert "accuracy under attack" in repr(once)


def test_more_steps_find_more() -> None:
    source = known_pictures()
    found = [
        measure(source, robust=AttackOptions(epsilon=0.03, step=0.001, steps=steps)).values["robust_accuracy"]
        for steps in (1, 8, 40)
    ]

    assert found[0] > found[1] > found[2]


def test_without_hard_targets_there_is_no_attack() -> None:
    with pytest.raises(InvalidOption, match=r"\[evaluate.robust\]: memory:pictures has no one hard target"):
        measure(Pictures(count=8), robust=ATTACK)


def test_a_model_of_texts_is_not_attacked(tmp_path: Any) -> None:
    from tests.modalities.text.reviews import write_reviews

    source = softlab.open_source(write_reviews(tmp_path / "reviews.parquet"), modality="text")
    input = softlab.TextInput(tokenizer="train:120")

    with pytest.raises(InvalidOption, match="samples of the modality text have no bounds between which they could be"):
        measure(source, model=_Texts(), input=input, robust=ATTACK)


class _Texts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 2)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        logits_BC: Tensor = self.layer(attention_mask.float().mean(dim=1, keepdim=True))
        return logits_BC


@pytest.mark.parametrize(
    ("options", "message"), [({"epsilon": -0.1}, "evaluate.robust.epsilon"), ({"steps": 0}, "evaluate.robust.steps")]
)
def test_options_that_mean_nothing_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        AttackOptions(**options)


def test_unknown_targets_count_nothing() -> None:
    source = known_pictures()
    assert source.targets_N is not None
    unknown = replace(source, targets_N=np.where(np.arange(40) == 39, source.targets_N, -1))

    assert measure(unknown, robust=ATTACK).values["robust_accuracy"] in (0, 1)

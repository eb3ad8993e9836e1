"""Students that withstand attacks, against plain code from the papers."""

# Shape letters: B images in a batch, C classes.

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from softlab.errors import InvalidOption
from softlab.labels.lazy_logits import LazyLogits
from softlab.labels.losses import KlLoss
from softlab.labels.selection import keep_top_k
from softlab.loading.aligned import Aligned
from softlab.loading.batch import Batch
from softlab.modalities.images.inputs import ImageInput, make_input
from softlab.modalities.inputs import Collated, Inputs
from softlab.modalities.modality import input_bounds
from softlab.store.reader import Store
from softlab.student.feature_losses import FeatureLoss
from softlab.student.objective import Objective
from softlab.student.options import Student, TeachersOptions
from softlab.student.robust import RobustLoss, make_robust_loss
from softlab.student.robust_options import RobustMethod, RobustOptions
from softlab.student.tapped import TappedStudent
from tests.modalities import text_bytes
from tests.student.fashion import all_but_seconds, same_weights
from tests.student.lazy import lazy_logits
from tests.student.pictures import NUM_CLASSES, make_learn, make_student, pictures, train, train_interrupted

INPUT = ImageInput(mean=(0.2, 0.5, 0.7), std=(0.2, 0.3, 0.9))
EPSILON, STEPS = 0.08, 5
RANDOM = torch.Generator().manual_seed(0)
IMAGES = list(torch.randint(256, (7, 3, 4, 6), dtype=torch.uint8, generator=RANDOM))
TEACHER_BC = 3 * torch.randn(7, NUM_CLASSES, generator=RANDOM)
TARGETS_B = torch.arange(7) % NUM_CLASSES


def batch_of(k: int = NUM_CLASSES) -> Batch:
    return Batch(
        source_B=torch.arange(7),
        views_B=torch.zeros(7, dtype=torch.int64),
        inputs=(Collated(inputs=Inputs(positional=(make_input(IMAGES, INPUT),))),),
        content_hashes=(b"",) * 7,
        targets_B=TARGETS_B,
        labels=keep_top_k(TEACHER_BC, k=k, temperatures=(1.0, 30.0)),
    )


def robust_loss(module: nn.Module, method: RobustMethod, *, alpha: float = 1.0, temperature: float = 1.0) -> Tensor:
    objective = Objective(teachers=TeachersOptions(alpha=alpha), loss=KlLoss(temperature=temperature))
    bounds = input_bounds(INPUT)
    assert bounds is not None
    options = RobustOptions(method=method, epsilon=EPSILON, steps=STEPS)
    student = TappedStudent(
        "small", module, {}, device=torch.device("cpu"), autocast="none", compiled=False, example=None, seed=0
    )
    torch.manual_seed(3)
    return RobustLoss(objective=objective, options=options, bounds=bounds)(student, batch_of(), progress=0.5)


class OnPixels(nn.Module):
    """The same student on pixels of 0 to 1, in float64."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module.double()

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        mean, std = (torch.tensor(values, dtype=torch.float64)[:, None, None] for values in (INPUT.mean, INPUT.std))
        logits_BC: Tensor = self.module((pixels_BCHW - mean) / std)
        return logits_BC


def from_the_papers(
    module: nn.Module, method: RobustMethod, *, alpha: float = 1.0, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """The loss, and the adversarial pixels: Zi et al. (2021), equations 7 and 8; Goldblum et al. (2020), equation 3;
    Madry et al. (2018), equation 2.1. With the teacher's dense logits."""
    model, teacher_BC = OnPixels(module), TEACHER_BC.double()
    clean = torch.stack(IMAGES).double() / 255

    def divergence(logits_BC: Tensor, at: float) -> Tensor:
        log_student_BC, log_teacher_BC = (logits_BC / at).log_softmax(1), (teacher_BC / at).log_softmax(1)
        return (log_teacher_BC.exp() * (log_teacher_BC - log_student_BC)).sum(1).mean()

    def cross_entropy(logits_BC: Tensor) -> Tensor:
        return -logits_BC.log_softmax(1)[torch.arange(7), TARGETS_B].mean()

    torch.manual_seed(3)
    if method == "rslad":
        found = clean + 0.001 * torch.randn(clean.shape).double()
    else:
        found = clean + EPSILON * (2 * torch.rand(clean.shape).double() - 1)
    found = torch.clamp(torch.min(torch.max(found, clean - EPSILON), clean + EPSILON), 0, 1)
    model.eval()
    for _ in range(STEPS):
        found = found.detach().requires_grad_()
        raised = divergence(model(found), 1.0) if method == "rslad" else cross_entropy(model(found))
        (gradient,) = torch.autograd.grad(raised, [found])
        found = found.detach() + EPSILON / 4 * gradient.sign()
        found = torch.clamp(torch.min(torch.max(found, clean - EPSILON), clean + EPSILON), 0, 1)
    model.train()
    adversarial_BC = model(found.detach())
    if method == "adversarial_training":
        return cross_entropy(adversarial_BC), found
    if method == "ard":
        loss = alpha * temperature**2 * divergence(adversarial_BC, temperature)
        return loss + (1 - alpha) * cross_entropy(model(clean)), found
    return 5 / 6 * divergence(adversarial_BC, 1.0) + 1 / 6 * divergence(model(clean), 1.0), found


@pytest.mark.parametrize(
    ("method", "learnt"),
    [("rslad", {}), ("ard", {"alpha": 0.9, "temperature": 30.0}), ("adversarial_training", {})],
)
def test_loss_and_gradients_are_those_of_the_paper(method: RobustMethod, learnt: dict[str, float]) -> None:
    ours, theirs = make_student(), make_student()

    loss = robust_loss(ours, method, **learnt)

    expected, _ = from_the_papers(theirs, method, **learnt)
    assert loss.item() == pytest.approx(expected.item(), rel=2e-5)
    assert all(parameter.grad is None for parameter in ours.parameters()), "the attack leaves no gradients"
    loss.backward()  # type: ignore[no-untyped-call]
    expected.backward()  # type: ignore[no-untyped-call]
    for name, parameter in ours.named_parameters():
        gradient = theirs.get_parameter(name).grad
        assert gradient is not None
        torch.testing.assert_close(parameter.grad, gradient.float(), rtol=1e-3, atol=1e-5)
    for name, buffer in ours.named_buffers():
        torch.testing.assert_close(buffer, theirs.get_buffer(name).to(buffer.dtype), rtol=1e-4, atol=1e-5)


def test_a_student_that_learns_nothing_of_the_attack_has_another_loss() -> None:
    plain = Objective(teachers=TeachersOptions(alpha=1.0), loss=KlLoss(temperature=1.0))
    module = make_student()
    clean = plain(module(batch_of().inputs[0].inputs.positional[0]), batch_of())

    assert robust_loss(make_student(), "rslad") > clean + 0.05


def test_adversarial_samples_stay_within_epsilon_and_between_black_and_white() -> None:
    seen: list[Tensor] = []
    module = make_student()
    module.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].detach().clone()))

    robust_loss(module, "ard")

    mean, std = (torch.tensor(values)[:, None, None] for values in (INPUT.mean, INPUT.std))
    clean = torch.stack(IMAGES) / 255
    assert len(seen) == STEPS + 1
    for pixels in (each * std + mean for each in seen):
        assert pixels.min() >= -1e-6
        assert pixels.max() <= 1 + 1e-6
        assert (pixels - clean).abs().max() <= EPSILON + 1e-6
    changes = (seen[-1] * std + mean - clean).abs()
    assert (changes > 0.9 * EPSILON).float().mean() > 0.5, "most pixels are changed as much as they may be"


ROBUST = {
    "rslad": RobustOptions(epsilon=0.05, steps=3),
    "ard": RobustOptions(method="ard", epsilon=0.05, steps=3),
    "trained": RobustOptions(method="adversarial_training", epsilon=0.05, steps=3),
}


def students() -> dict[str, Student]:
    plain = Student(module=make_student(dropout=0.5), learn=make_learn(alpha=1.0))
    return {"plain": plain} | {
        name: Student(module=make_student(dropout=0.5), learn=make_learn(alpha=1.0, robust=robust))
        for name, robust in ROBUST.items()
    }


def test_robust_students_in_one_pass_are_to_the_bit_those_trained_alone(first: Store) -> None:
    together = students()
    results = train(together, first, valid=True)

    for result in results:
        alone = {result.name: students()[result.name]}
        (expected,) = train(alone, first, valid=True)
        assert same_weights(together[result.name].module, alone[result.name].module)
        assert all_but_seconds(result) == all_but_seconds(expected)
    assert len({result.train_loss for result in results}) == 4


def test_an_interrupted_robust_run_goes_on_to_the_same_bits(first: Store, tmp_path: Path) -> None:
    whole = students()
    expected = train(whole, first)

    gone_on, results = train_interrupted(students, first, out=tmp_path)

    for name, student in whole.items():
        assert isinstance(other := gone_on[name], Student)
        assert same_weights(student.module, other.module)
    assert [each.train_loss for each in results] == [each.train_loss for each in expected]


def test_the_options_are_part_of_what_a_run_is(first: Store, tmp_path: Path) -> None:
    train(students(), first, out=tmp_path)

    described = json.loads((tmp_path / "run.json").read_text())["students"]
    assert described["ard"]["robust"]["method"] == "ard"
    assert "robust" not in described["plain"]
    assert "attacks_by_targets" not in described["plain"]["objective"]


@pytest.mark.parametrize(
    ("robust", "temperature"), [(ROBUST["rslad"], 1.0), (ROBUST["ard"], 30.0), (ROBUST["trained"], 4.0)]
)
@pytest.mark.filterwarnings("ignore::softlab.errors.InterpolatedTail")
def test_the_temperature_is_that_of_the_paper_unless_it_is_given(
    first: Store, tmp_path: Path, robust: RobustOptions, temperature: float
) -> None:
    given = Student(module=make_student(), learn=make_learn(alpha=1.0, robust=robust, temperature=2.0))
    train(
        {"left": Student(module=make_student(), learn=make_learn(robust=robust)), "given": given}, first, out=tmp_path
    )

    described = json.loads((tmp_path / "run.json").read_text())["students"]
    assert described["left"]["objective"]["loss"]["temperature"] == temperature
    assert described["given"]["objective"]["loss"]["temperature"] == 2.0


def test_the_baseline_of_a_robust_student_is_trained_on_adversarial_samples(first: Store) -> None:
    learn = make_learn(robust=ROBUST["rslad"])
    _, baseline = train({"a": Student(module=make_student(), learn=learn)}, first, baseline=True)

    trained = Student(module=make_student(), learn=make_learn(robust=ROBUST["trained"]))
    (expected,) = train({"a": trained})
    assert baseline.name == "a-hard"
    assert baseline.train_loss == expected.train_loss


class Rounded(nn.Module):
    """Looks at which pixels are bright, which can't be differentiated."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(72, NUM_CLASSES)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        logits_BC: Tensor = self.layer((images_BCHW > 0).flatten(start_dim=1).float())
        return logits_BC


def refused(stores: Any, message: str, *, module: nn.Module | None = None, **learn: Any) -> None:
    student = Student(module=module or make_student(), learn=make_learn(**learn))
    with pytest.raises(InvalidOption, match=message):
        train({"small": student}, stores)


def test_what_can_not_be_had_together_is_refused_before_the_first_step(first: Store) -> None:
    refused(
        (), r"student small: robust.method = rslad: it learns stored labels, and there are none", robust=ROBUST["rslad"]
    )
    refused(first, r"robust.method = ard: .* `teachers.alpha` is 0", robust=ROBUST["ard"], alpha=0.0)
    feature = {"mean": FeatureLoss(layer="conv:mean")}
    refused(first, r"adversarial samples have no stored features", robust=ROBUST["rslad"], feature=feature)
    refused(
        first,
        r"\[robust\]: the model's outputs have no gradient by its input",
        robust=ROBUST["rslad"],
        module=Rounded(),
    )


@pytest.mark.parametrize("robust", [ROBUST["ard"], ROBUST["trained"]])
def test_an_attack_by_hard_targets_needs_all_of_them(first: Store, robust: RobustOptions) -> None:
    source = pictures()
    assert source.targets_N is not None
    targets_N = source.targets_N.copy()
    targets_N[3] = -1
    student = Student(module=make_student(), learn=make_learn(robust=robust, alpha=1.0))

    with pytest.raises(
        InvalidOption, match=r"needs the hard target of each sample, and .* lacks some. Say `robust.method"
    ):
        train({"small": student}, first, source=replace(source, targets_N=targets_N))


def test_texts_have_no_bounds_between_which_they_could_be_changed() -> None:
    aligned, learn = Aligned(source=pictures(), inputs=(text_bytes.TextInput(),)), make_learn(robust=ROBUST["trained"])

    assert input_bounds(text_bytes.TextInput()) is None
    with pytest.raises(
        InvalidOption, match=r"student small: \[robust\]: samples of the modality .*text_bytes have no bounds"
    ):
        make_robust_loss("small", learn, Objective(), aligned, input_index=0)


class Lazy(nn.Module):
    """Gives logits of a large vocabulary, some rows at a time."""

    def forward(self, images_BCHW: Tensor) -> LazyLogits:
        return lazy_logits(dtype=torch.float32)


def test_logits_of_a_large_vocabulary_are_refused() -> None:
    given = batch_of()
    many = replace(given, inputs=(replace(given.inputs[0], inputs=Inputs(positional=(torch.zeros(11, 3, 4, 6),))),))
    student = TappedStudent(
        "small", Lazy(), {}, device=torch.device("cpu"), autocast="none", compiled=False, example=None, seed=0
    )
    bounds = input_bounds(INPUT)
    assert bounds is not None
    loss = RobustLoss(objective=Objective(), options=ROBUST["trained"], bounds=bounds)

    with pytest.raises(InvalidOption, match="gives logits of a large vocabulary"):
        loss(student, replace(many, labels=None, source_B=torch.arange(11)), progress=0.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epsilon": 0.0}, "robust.epsilon = 0.0: expected a number above 0"),
        ({"step": -1.0}, "robust.step = -1.0: expected a number above 0"),
        ({"steps": 0}, "robust.steps = 0: expected 1 or more"),
        ({"weight": 1.5}, "robust.weight = 1.5: expected 0 to 1"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        RobustOptions(**options)

import copy
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import prune
from torchvision.models.swin_transformer import ShiftedWindowAttention

from softlab.errors import InvalidOption, ModelError
from softlab.student.pruning import PruneOptions, Pruner, exported_state, scheduled_share

NUM_STEPS = 12
IMAGES_BCHW = torch.rand(12, 16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
TARGETS_B = torch.randint(3, (12, 16), generator=torch.Generator().manual_seed(1))


def convolutions(*, seed: int = 0) -> nn.Sequential:
    """Weights of 0: 54, 3: 480 and 6: 60; the last has 60 more and stays whole."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 6, 3),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Conv2d(6, 20, 2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(20, 3),
            nn.Linear(3, 20),
        )


def pruner(module: nn.Module, *, num_steps: int = NUM_STEPS, **options: Any) -> Pruner:
    made = Pruner(module, PruneOptions(**{"amount": 0.8, "every_steps": 2} | options), num_steps=num_steps)
    made.prepare()
    return made


def masks(module: nn.Module) -> dict[str, Tensor]:
    return {name: mask.clone() for name, mask in module.named_buffers() if name.endswith("_mask")}


def num_zeros(tensors: Iterable[Tensor]) -> int:
    return sum(int((tensor == 0).sum()) for tensor in tensors)


def disturb(module: nn.Module, *, seed: int) -> None:
    """Stands for a step of training that changes every weight, also those that are masked."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, parameter in sorted(module.named_parameters()):  # pruning changes their order
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


# The schedule.


def brute_force_share(step: int, *, begin: int, end: int, amount: Fraction) -> Fraction:
    """Equation 1 as printed, with s_i = 0 and n dt = end - begin: s_f + (s_i - s_f) (1 - (t - t_0) / (n dt))^3."""
    if step < begin:
        return Fraction(0)
    if step >= end:
        return amount
    return amount + (0 - amount) * (1 - Fraction(step - begin, end - begin)) ** 3


@given(st.integers(0, 300), st.integers(0, 100), st.integers(0, 100), st.fractions(0, 1))
def test_the_share_follows_the_cubic_schedule(step: int, begin: int, length: int, amount: Fraction) -> None:
    share = scheduled_share(step, begin_step=begin, end_step=begin + length, amount=float(amount))

    expected = brute_force_share(step, begin=begin, end=begin + length, amount=amount)
    assert share == pytest.approx(float(expected), abs=1e-12)


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"begin": 0.0, "end": 0.75, "every_steps": 2}, [2, 4, 6, 8, 9]),
        ({"begin": 0.0, "end": 0.75, "every_steps": 100}, [9]),
        ({"begin": 0.25, "end": 0.75, "every_steps": 2}, [5, 7, 9]),
        ({"begin": 0.25, "end": 1.0, "every_steps": 4}, [7, 11, 12]),
        ({"begin": 0.5, "end": 0.5, "every_steps": 1}, [6]),
        ({"begin": 1.0, "end": 1.0, "every_steps": 1}, [12]),
        ({"begin": 0.0, "end": 0.25, "every_steps": 1}, [1, 2, 3]),
    ],
)
def test_masks_change_every_so_many_steps_from_begin_to_end(options: dict[str, Any], steps: list[int]) -> None:
    module = nn.Sequential(nn.Linear(40, 50), nn.Linear(50, 2))
    one = pruner(module, amount=0.9, **options)

    changed = []
    for step in range(1, NUM_STEPS + 1):
        before = num_zeros(masks(module).values())
        one.step(step / NUM_STEPS)
        zeros = num_zeros(masks(module).values())
        changed += [step] if zeros != before else []

        share = brute_force_share(
            max([due for due in steps if due <= step], default=0),
            begin=round(options["begin"] * NUM_STEPS),
            end=round(options["end"] * NUM_STEPS),
            amount=Fraction(9, 10),
        )
        assert abs(zeros - share * 2000) <= Fraction(1, 2)
    assert changed == steps


# Which weights are masked, against torch's own functions.

TorchPrune = Callable[[list[nn.Module], list[int]], None]
"""Prunes so many more weights or channels of each layer."""


def by_layer(layers: list[nn.Module], more: list[int]) -> None:
    for layer, amount in zip(layers, more, strict=True):
        prune.l1_unstructured(layer, "weight", amount=amount)  # type: ignore[no-untyped-call]


def by_all(layers: list[nn.Module], more: list[int]) -> None:
    weights = [(layer, "weight") for layer in layers]
    prune.global_unstructured(weights, prune.L1Unstructured, amount=more[0])


def by_channel(layers: list[nn.Module], more: list[int]) -> None:
    for layer, amount in zip(layers, more, strict=True):
        axis = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
        prune.ln_structured(layer, "weight", amount=amount, n=1, dim=axis)  # type: ignore[no-untyped-call]


def call(module: nn.Sequential) -> None:
    """torch's functions rank the product of mask and weight that the last forward left."""
    for layer in module:
        for hook in layer._forward_pre_hooks.values():
            hook(layer, ())


@pytest.mark.parametrize(
    ("options", "sizes", "torch_prune"),
    [
        ({"scope": "layer"}, [80, 630, 160], by_layer),
        ({"scope": "global"}, [870], by_all),
        ({"structure": "channels"}, [10, 7, 20], by_channel),
    ],
)
def test_the_smallest_go_as_with_torchs_own_functions(
    options: dict[str, Any], sizes: list[int], torch_prune: TorchPrune
) -> None:
    module = nn.Sequential(nn.Conv2d(2, 10, 2), nn.ConvTranspose2d(10, 7, 3), nn.Linear(8, 20), nn.Linear(20, 2))
    expected = copy.deepcopy(module)
    pruner(expected, **options)  # masks of ones, so that both have the same names
    one, done = pruner(module, **options), [0] * len(sizes)

    for step in range(1, NUM_STEPS + 1):
        disturb(module, seed=step)
        disturb(expected, seed=step)
        one.step(step / NUM_STEPS)

        if step in (2, 4, 6, 8, 9):
            call(expected)
            share = scheduled_share(step, begin_step=0, end_step=9, amount=0.8)
            torch_prune(
                list(expected)[:3], [round(share * size) - before for size, before in zip(sizes, done, strict=True)]
            )
            done = [round(share * size) for size in sizes]
        assert all(mask.equal(masks(expected)[name]) for name, mask in masks(module).items())
    assert all(done)


# How much is masked.


@given(st.floats(0.01, 0.99), st.sampled_from(["layer", "global"]), st.integers(1, 5))
def test_the_amount_is_reached_to_one_weight(amount: float, scope: str, every_steps: int) -> None:
    module = convolutions()
    one = pruner(module, amount=amount, scope=scope, every_steps=every_steps)

    for step in range(1, NUM_STEPS + 1):
        one.step(step / NUM_STEPS)

    if scope == "global":
        assert num_zeros(masks(module).values()) == round(amount * 594)
    else:
        assert [num_zeros([mask]) for mask in masks(module).values()] == [
            round(amount * size) for size in (54, 480, 60)
        ]


@pytest.mark.parametrize("structure", ["unstructured", "channels"])
def test_one_weight_or_channel_of_a_layer_always_stays(structure: str) -> None:
    module = nn.Sequential(nn.Conv2d(1, 3, 1), nn.Linear(2, 2))

    pruner(module, amount=0.99, structure=structure, end=0.0).step(0.0)

    assert masks(module)["0.weight_mask"].sum() == 1


def test_counts_are_exact_in_half_precision() -> None:
    """bfloat16 has no 257, so that counting by sums of masks would go wrong."""
    module = nn.Sequential(nn.Linear(50, 100), nn.Linear(2, 2)).bfloat16()

    pruner(module, amount=0.9).step(0.75)

    assert num_zeros(masks(module).values()) == 4500


def test_a_mask_never_grows_back() -> None:
    module = convolutions()
    one = pruner(module, scope="global")

    for step in range(1, NUM_STEPS + 1):
        before = masks(module)
        with torch.no_grad():
            for name, mask in before.items():
                module.get_parameter(name.replace("_mask", "_orig")).add_(100 * (1 - mask))  # largest of all
        one.step(step / NUM_STEPS)

        assert all((after <= before[name]).all() for name, after in masks(module).items())


def test_the_sparsity_is_told_by_layer_and_overall() -> None:
    module = convolutions()
    one = Pruner(module, PruneOptions(amount=0.5), num_steps=4)
    nothing = one.sparsity()
    one.prepare()

    one.step(0.75)
    masked = one.sparsity()
    one.finish()

    assert nothing.layers == {"0": 0.0, "3": 0.0, "6": 0.0}
    assert masked.layers == {"0": 0.5, "3": 0.5, "6": 0.5}
    assert masked.overall == 0.5
    assert one.sparsity() == masked


def test_overall_counts_weights_and_not_layers() -> None:
    module = convolutions()
    one = pruner(module, scope="global")

    one.step(0.75)

    sparsity = one.sparsity()
    assert sparsity.overall == round(0.8 * 594) / 594
    assert sparsity.overall == pytest.approx(
        sum(sparsity.layers[name] * size for name, size in [("0", 54), ("3", 480), ("6", 60)]) / 594
    )
    assert len(set(sparsity.layers.values())) > 1


# Training, and going on after a stop.


class Run:
    """A student in training with SGD and momentum, which also moves the weights under the masks."""

    def __init__(self, **options: Any) -> None:
        self.module = convolutions()
        self.pruner = pruner(self.module, **options)
        self.optimizer = torch.optim.SGD(self.module.parameters(), lr=0.2, momentum=0.9, weight_decay=0.01)

    def train(self, steps: Iterable[int]) -> None:
        for step in steps:
            self.optimizer.zero_grad()
            loss = nn.functional.cross_entropy(self.module(IMAGES_BCHW[step]), TARGETS_B[step])
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            self.pruner.step((step + 1) / NUM_STEPS)

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return copy.deepcopy((self.module.state_dict(), self.optimizer.state_dict()))


def resumed(state: tuple[dict[str, Any], dict[str, Any]], **options: Any) -> Run:
    run = Run(**options)
    run.module.load_state_dict(state[0])
    run.optimizer.load_state_dict(state[1])
    return run


@pytest.mark.parametrize("options", [{"scope": "layer"}, {"scope": "global"}, {"structure": "channels"}])
def test_a_run_that_stops_after_any_step_goes_on_to_the_same_bits(options: dict[str, str]) -> None:
    whole = Run(**options)
    states = []
    for step in range(NUM_STEPS):
        states.append(whole.state())
        whole.train([step])

    for step, state in enumerate(states):
        run = resumed(state, **options)
        run.train(range(step, NUM_STEPS))

        assert run.pruner.sparsity() == whole.pruner.sparsity()
        for name, tensor in whole.module.state_dict().items():
            assert run.module.state_dict()[name].equal(tensor), (step, name)


def test_a_state_of_another_step_replaces_the_masks() -> None:
    early, late = Run(), Run()
    early.train(range(3))
    late.train(range(9))

    late.module.load_state_dict(early.module.state_dict())

    assert late.pruner.sparsity() == early.pruner.sparsity()
    assert late.module.eval()(IMAGES_BCHW[0]).equal(early.module.eval()(IMAGES_BCHW[0]))


def test_masked_weights_take_no_part_and_get_no_gradient() -> None:
    run = Run()
    run.train(range(9))

    run.optimizer.zero_grad()
    run.module(IMAGES_BCHW[0]).square().sum().backward()

    for name, mask in masks(run.module).items():
        original = run.module.get_parameter(name.replace("_mask", "_orig"))
        assert original.grad is not None
        assert (original.grad[mask == 0] == 0).all()
        assert (original.grad[mask == 1] != 0).any()


def test_before_the_first_mask_nothing_changes() -> None:
    run, module = Run(begin=0.5), convolutions()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.2, momentum=0.9, weight_decay=0.01)

    run.train(range(6))
    for step in range(6):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(IMAGES_BCHW[step]), TARGETS_B[step]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    assert all(exported_state(run.module)[name].equal(tensor) for name, tensor in module.state_dict().items())


def test_an_encoder_layer_in_eval_mode_reads_the_present_weights() -> None:
    """Its fast path would read the products of the last forward, were it not for torch's check for hooks."""
    layer = nn.TransformerEncoderLayer(8, nhead=2, dim_feedforward=16, batch_first=True)
    module, x_BLD = nn.Sequential(layer, nn.Linear(8, 2)), torch.rand(2, 4, 8)
    one = pruner(module)
    module(x_BLD)
    one.step(0.5)
    disturb(module, seed=0)

    with torch.no_grad():
        masked = module.eval()(x_BLD)
        one.finish()

        torch.testing.assert_close(masked, module(x_BLD))


def test_a_prepared_student_can_be_copied() -> None:
    module = convolutions()
    pruner(module).step(0.5)

    other = copy.deepcopy(module)

    assert all(mask.equal(masks(module)[name]) for name, mask in masks(other).items())


def test_memory_does_not_grow_with_the_number_of_prunings() -> None:
    module = convolutions()
    one = pruner(module, every_steps=1, num_steps=40)
    hooks = [list(layer._forward_pre_hooks.values()) for layer in module]

    for step in range(40):
        one.step(step / 40)

    assert [list(layer._forward_pre_hooks.values()) for layer in module] == hooks
    assert not any(isinstance(hook, prune.PruningContainer) for layer in hooks for hook in layer)


# The end.


def test_after_finish_the_weights_have_the_names_of_an_unpruned_model() -> None:
    run = Run()
    run.train(range(NUM_STEPS))
    with torch.no_grad():
        expected = run.module.eval()(IMAGES_BCHW[0])
    zeros = num_zeros(masks(run.module).values())

    run.pruner.finish()

    plain = convolutions(seed=1)
    assert set(run.module.state_dict()) == set(plain.state_dict())
    assert {name for name, _ in run.module.named_parameters()} == {name for name, _ in plain.named_parameters()}
    assert not prune.is_pruned(run.module)
    plain.load_state_dict(run.module.state_dict())
    assert plain.eval()(IMAGES_BCHW[0]).equal(expected)
    assert num_zeros(plain.get_parameter(f"{index}.weight") for index in (0, 3, 6)) == zeros == 475


def test_finishing_twice_changes_nothing_more() -> None:
    run = Run()
    run.train(range(9))
    run.pruner.finish()
    before = copy.deepcopy(run.module.state_dict())

    run.pruner.finish()

    assert all(tensor.equal(before[name]) for name, tensor in run.module.state_dict().items())


@pytest.mark.parametrize("steps", [0, 5, 12])
def test_a_state_exported_on_the_way_is_the_one_that_finishing_would_give(steps: int) -> None:
    run, untouched = Run(), Run()
    run.train(range(steps))
    untouched.train(range(steps))

    exported = exported_state(run.module)
    for name, tensor in untouched.module.state_dict().items():
        assert run.module.state_dict()[name].equal(tensor)
    run.pruner.finish()

    assert set(exported) == set(run.module.state_dict())
    assert all(exported[name].equal(tensor) for name, tensor in run.module.state_dict().items())


def test_a_layer_that_is_used_twice_is_exported_under_both_names() -> None:
    shared = nn.Linear(4, 4)
    module = nn.Sequential(shared, nn.ReLU(), shared, nn.Linear(4, 2))
    one = pruner(module)

    one.step(0.75)

    exported = exported_state(module)
    assert set(exported) == {"0.weight", "0.bias", "2.weight", "2.bias", "3.weight", "3.bias"}
    assert exported["0.weight"].equal(exported["2.weight"])
    assert num_zeros([exported["0.weight"]]) == 13


# Refusals.


class Windows(nn.Module):
    """torchvision's window attention reads the weights of its linear layers without calling them."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(3, 8)
        self.attention = ShiftedWindowAttention(8, window_size=[2, 2], shift_size=[0, 0], num_heads=2)
        self.head = nn.Linear(8, 2)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        logits: Tensor = self.head(self.attention(self.embed(x_BHWC)))
        return logits


def test_a_layer_that_is_read_but_not_called_is_found_at_the_first_step() -> None:
    module, x_BHWC = Windows(), torch.rand(1, 4, 4, 3)
    one = pruner(module)
    module(x_BHWC)

    with pytest.raises(ModelError, match=r"layer attention\.qkv: .* \(found in 2 of 3 layers\)\. Add it to `exclude`"):
        one.step(1 / NUM_STEPS)

    one.finish()
    excluding = pruner(module, exclude=("attention",))
    module(x_BHWC)
    excluding.step(0.75)
    assert list(excluding.sparsity().layers) == ["embed"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"amount": 0.0}, "amount = 0.0: expected a number between 0 and 1, such as 0.8."),
        ({"amount": 1.0}, "amount = 1.0: expected a number between 0 and 1, such as 0.8."),
        ({"amount": float("nan")}, "amount = nan: expected a number between 0 and 1, such as 0.8."),
        ({"begin": -0.1}, "begin = -0.1: expected 0 to 1."),
        ({"begin": 0.8}, "end = 0.75: expected 0.8 (`begin`) to 1."),
        ({"end": 1.1}, "end = 1.1: expected 0.0 (`begin`) to 1."),
        ({"every_steps": 0}, "every_steps = 0: expected 1 or more."),
        ({"scope": "model"}, "scope = model: expected layer or global."),
        ({"structure": "rows"}, "structure = rows: expected unstructured or channels."),
        (
            {"scope": "global", "structure": "channels"},
            "scope = global: expected layer with structure = channels, for the norms of channels of different sizes "
            "can't be compared.",
        ),
    ],
)
def test_a_value_outside_its_range_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOption) as raised:
        PruneOptions(**{"amount": 0.8} | options)

    assert str(raised.value) == message


def test_an_exclusion_that_is_not_the_name_of_a_layer_is_refused() -> None:
    with pytest.raises(InvalidOption, match=r"exclude: 'head\*' isn't the name of a layer\. Write one like"):
        PruneOptions(amount=0.8, exclude=("head*",))

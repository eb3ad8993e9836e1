"""A teacher with modules or tensors that aren't registered is refused, with their place and the way out."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.nn.utils import weight_norm as old_weight_norm

from softlab.errors import TeacherError
from softlab.teacher.hidden_parts import check_nothing_hidden
from tests.teacher.dumping import dump, make_options, make_teacher


class Holding(nn.Module):
    """A teacher with another attribute."""

    def __init__(self, parts: object) -> None:
        super().__init__()
        self.teacher, self.parts = make_teacher(), parts

    def forward(self, images_BCHW: Tensor) -> Tensor:
        logits_BC: Tensor = self.teacher(images_BCHW)
        return logits_BC


@pytest.mark.parametrize(
    ("hold", "place"),
    [
        (lambda module: [module], "`parts[0]` holds a Sequential"),
        (lambda module: (1, module), "`parts[1]` holds a Sequential"),
        (lambda module: {"left": module}, "`parts['left']` holds a Sequential"),
        (lambda module: [{"left": module}], "`parts[0]['left']` holds a Sequential"),
        (lambda module: partial(nn.Module.forward, module), "`parts.args[0]` holds a Sequential"),
        (lambda module: module.forward, "`parts.__self__` holds a Sequential"),
        (lambda module: lambda inputs: module(inputs), "`parts.module` holds a Sequential"),
    ],
)
def test_a_hidden_module_is_refused_with_its_place(hold: Callable[[nn.Module], object], place: str) -> None:
    with pytest.raises(TeacherError, match=re.escape(place) + ".* in an nn.ModuleList or nn.ModuleDict"):
        check_nothing_hidden(Holding(hold(make_teacher())))


@pytest.mark.parametrize(
    ("parts", "place", "step"),
    [
        ([torch.ones(3)], "a tensor that isn't registered: `parts[0]`, of shape [3]", "Give it to register_buffer."),
        ({"a": torch.ones(3)}, "a tensor that isn't registered: `parts['a']`", "Give it to register_buffer."),
        (torch.ones(3), "a tensor that isn't registered: `parts`", "Give it to register_buffer."),
        ([nn.Parameter(torch.ones(3))], "a parameter that isn't registered: `parts[0]`", "in an nn.ParameterList"),
    ],
)
def test_a_hidden_tensor_is_refused_with_its_place(parts: object, place: str, step: str) -> None:
    with pytest.raises(TeacherError, match=re.escape(place) + ".*" + re.escape(step)):
        check_nothing_hidden(Holding(parts))


def test_a_module_that_only_the_forward_pass_knows_is_refused(tmp_path: Path) -> None:
    hidden = make_teacher()

    class Outside(nn.Module):
        def forward(self, images_BCHW: Tensor) -> Tensor:
            logits_BC: Tensor = hidden(images_BCHW)
            return logits_BC

    with pytest.raises(TeacherError, match="its forward pass runs a Conv2d outside of its modules"):
        dump(tmp_path / "store", make_options(), teacher=Outside())
    assert not (tmp_path / "store").exists()


def with_a_cache() -> nn.Module:
    """As some models keep what they computed from their parameters."""
    module = Holding({})
    module.parts = {"cpu": next(module.parameters()) * 2}
    return module


def with_parts_registered_twice() -> nn.Module:
    module = Holding([])
    module.parts = [module.teacher, next(module.parameters())]
    return module


@pytest.mark.parametrize(
    "make",
    [
        make_teacher,
        with_a_cache,
        with_parts_registered_twice,
        lambda: Holding([nn.ReLU(), "mean", 3, None]),
        lambda: nn.LSTM(3, 4),  # holds its weights in a list, too
        lambda: nn.MultiheadAttention(8, 2),
        lambda: parametrizations.weight_norm(nn.Linear(3, 4)),
        lambda: parametrizations.spectral_norm(nn.Linear(3, 4)),
    ],
)
def test_what_is_registered_or_follows_from_it_passes(make: Callable[[], nn.Module]) -> None:
    check_nothing_hidden(make())


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
def test_a_weight_that_a_hook_makes_passes() -> None:
    with torch.no_grad():
        check_nothing_hidden(old_weight_norm(nn.Linear(3, 4)))

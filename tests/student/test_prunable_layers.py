import re
from collections import OrderedDict
from collections.abc import Sequence

import pytest
from torch import nn
from torch.nn.utils import parametrizations
from torchvision.models import resnet18

from softlab.errors import ModelError
from softlab.student.prunable_layers import output_axis, prunable_layers


def named(**layers: nn.Module) -> nn.Module:
    return nn.Sequential(OrderedDict(layers))


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, nhead=2, dim_feedforward=16, batch_first=True)
    return named(embed=nn.Linear(5, 8), encoder=nn.TransformerEncoder(layer, 2, enable_nested_tensor=False))


def test_convolutions_and_linear_layers_are_pruned_but_the_last_one() -> None:
    module = named(
        line=nn.Conv1d(2, 2, 1),
        plane=nn.Conv2d(2, 2, 1),
        norm=nn.BatchNorm2d(2),
        space=nn.Conv3d(2, 2, 1),
        up=nn.ConvTranspose2d(2, 2, 1),
        words=nn.Embedding(3, 2),
        hidden=nn.Linear(2, 2),
        act=nn.ReLU(),
        head=nn.Linear(2, 2),
        out=nn.Softmax(dim=1),
    )

    assert list(prunable_layers(module)) == ["line", "plane", "space", "up", "hidden"]
    assert list(prunable_layers(module, keep_last=False))[-1] == "head"


@pytest.mark.parametrize(
    ("exclude", "expected"),
    [
        (["embed"], ["encoder.layers.0.linear1", "encoder.layers.0.linear2", "encoder.layers.1.linear1"]),
        (["encoder"], ["embed"]),
        (["encoder.layers.{i}.linear1", "encoder.layers.1.linear2"], ["embed", "encoder.layers.0.linear2"]),
    ],
)
def test_excluded_layers_are_left_out_with_all_that_is_in_them(exclude: Sequence[str], expected: list[str]) -> None:
    assert list(prunable_layers(encoder(), exclude=exclude)) == expected


def test_the_projection_inside_attention_is_never_pruned() -> None:
    names = set(prunable_layers(encoder(), keep_last=False))

    assert names == {"embed", *(f"encoder.layers.{number}.linear{part}" for number in (0, 1) for part in (1, 2))}


def test_a_layer_that_is_used_twice_is_pruned_once() -> None:
    shared = nn.Linear(2, 2)

    layers = prunable_layers(named(first=shared, second=shared, head=nn.Linear(2, 2)))

    assert list(layers) == ["first"]


@pytest.mark.parametrize(
    ("layer", "axis"),
    [(nn.Conv2d(3, 4, 2), 0), (nn.Linear(3, 4), 0), (nn.ConvTranspose1d(3, 4, 2), 1), (nn.ConvTranspose3d(3, 4, 2), 1)],
)
def test_the_output_axis_has_the_size_of_the_output(layer: nn.Conv2d | nn.Linear, axis: int) -> None:
    assert output_axis(layer) == axis
    assert layer.weight.shape[axis] == 4


def test_an_excluded_layer_that_is_not_there_is_refused_with_the_nearest() -> None:
    with pytest.raises(ModelError, match=re.escape("exclude: the student has no layer layr1. Did you mean layer1")):
        prunable_layers(resnet18(), exclude=["layr1"])


@pytest.mark.parametrize(
    ("module", "exclude"),
    [(named(norm=nn.BatchNorm1d(2)), []), (named(head=nn.Linear(2, 2)), []), (encoder(), ["embed", "encoder"])],
    ids=["nothing fits", "only the last", "all excluded"],
)
def test_a_student_with_nothing_to_prune_is_refused(module: nn.Module, exclude: list[str]) -> None:
    with pytest.raises(ModelError, match=r"Sequential has no convolution or linear layer to prune\. Prune another"):
        prunable_layers(module, exclude=exclude)


def test_a_shared_weight_is_refused_unless_excluded() -> None:
    words, head = nn.Embedding(7, 4), nn.Linear(4, 7)
    head.weight = words.weight
    module = named(words=words, hidden=nn.Linear(4, 4), head=head)

    with pytest.raises(ModelError, match=r"layer head: its weight is also that of words, .* Add head to `exclude`\."):
        prunable_layers(module, keep_last=False)

    assert list(prunable_layers(module)) == ["hidden"]


def test_a_computed_weight_is_refused_unless_excluded() -> None:
    module = named(normed=parametrizations.weight_norm(nn.Linear(2, 2)), hidden=nn.Linear(2, 2), head=nn.Linear(2, 2))

    with pytest.raises(ModelError, match=r"layer normed: its weight is computed .* Add it to `exclude`\."):
        prunable_layers(module)

    assert list(prunable_layers(module, exclude=["normed"])) == ["hidden"]

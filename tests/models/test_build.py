import re
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from softlab.errors import InvalidOption, ModelError
from softlab.models.build import ModelOptions, build_model
from softlab.models.weights import weights_fingerprint

OWN_MODULE = """
from torch import nn


def linear(*, inputs, outputs=10):
    return nn.Linear(inputs, outputs)


def text():
    return "not a model"


def broken():
    return [][0]
"""


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a module of factories in the current folder."""
    (tmp_path / "own_factories.py").write_text(OWN_MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "own_factories", raising=False)
    return "own_factories"


@pytest.mark.parametrize(
    ("model", "image"),
    [
        ("torchvision:squeezenet1_1", (3, 64, 64)),
        ("timm:test_resnet", (3, 64, 64)),
        ("timm:test_vit.r160_in1k", (3, 160, 160)),  # a tag names pretrained weights, which are not asked for
        ("softlab:grey_resnet", (1, 28, 28)),
        ("softlab:grey_cnn", (1, 28, 28)),
        ("softlab:grey_mlp", (1, 28, 28)),
    ],
)
def test_a_named_model_is_built_with_its_arguments(model: str, image: tuple[int, int, int]) -> None:
    built = build_model(ModelOptions(model=model, arguments={"num_classes": 7})).eval()

    assert built(torch.zeros(2, *image)).shape == (2, 7)


def test_a_factory_is_found_in_the_current_folder(own_module: str) -> None:
    model = build_model(ModelOptions(model=f"{own_module}:linear", arguments={"inputs": 4}))

    assert model(torch.zeros(2, 4)).shape == (2, 10)


def test_a_factory_is_found_in_an_installed_package() -> None:
    model = build_model(ModelOptions(model="torch.nn:Linear", arguments={"in_features": 4, "out_features": 2}))

    assert isinstance(model, nn.Linear)


def test_weights_are_loaded(tmp_path: Path) -> None:
    teacher = build_model(ModelOptions(model="softlab:grey_mlp"))
    torch.save(teacher.state_dict(), tmp_path / "teacher.pt")

    loaded = build_model(ModelOptions(model="softlab:grey_mlp", weights=tmp_path / "teacher.pt"))

    assert weights_fingerprint(loaded) == weights_fingerprint(teacher)


def test_the_backbone_of_a_segmentation_model_is_not_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    build_model(ModelOptions(model="torchvision:lraspp_mobilenet_v3_large"))

    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize("model", ["resnet18", "torchvision:", ":resnet18", ""])
def test_a_model_without_origin_or_name_is_refused(model: str) -> None:
    with pytest.raises(
        InvalidOption, match=r"Write torchvision:NAME, timm:NAME, hf:FOLDER, softlab:NAME or package\.module:"
    ):
        ModelOptions(model=model)


@pytest.mark.parametrize(
    ("model", "nearest"),
    [
        ("torchvision:resnet81", "resnet18"),
        ("timm:tset_vit", "test_vit"),
        ("softlab:gray_resnet", "grey_resnet"),
        ("torch.nn:Linaer", "Linear"),
    ],
)
def test_a_misspelt_name_lists_the_nearest(model: str, nearest: str) -> None:
    with pytest.raises(ModelError, match=re.escape(f"Did you mean {nearest}")):
        build_model(ModelOptions(model=model))


@pytest.mark.parametrize("model", ["torchvision:resnet18", "timm:test_resnet", "timm:test_vit", "softlab:grey_mlp"])
def test_a_wrong_argument_is_named_beside_the_accepted_ones(model: str) -> None:
    with pytest.raises(ModelError, match=r"'num_clases'.*Change its arguments; it accepts .*\bnum_classes\b"):
        build_model(ModelOptions(model=model, arguments={"num_clases": 7}))


def test_a_wrong_argument_of_an_own_factory_is_named(own_module: str) -> None:
    with pytest.raises(ModelError, match=r"'output'.*Change its arguments; it accepts inputs, outputs\."):
        build_model(ModelOptions(model=f"{own_module}:linear", arguments={"inputs": 4, "output": 3}))


def test_a_missing_argument_is_named(own_module: str) -> None:
    with pytest.raises(ModelError, match=r"'inputs'.*Change its arguments; it accepts inputs, outputs\."):
        build_model(ModelOptions(model=f"{own_module}:linear"))


def test_an_argument_that_the_factory_fills_in_itself_is_not_offered() -> None:
    with pytest.raises(ModelError) as raised:
        build_model(ModelOptions(model="torchvision:resnet18", arguments={"num_clases": 7}))

    assert " block," not in str(raised.value)


@pytest.mark.parametrize("arguments", [{"num_classes": "ten"}, {"weights": "IMAGENET"}])
def test_a_wrong_value_is_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(ModelError, match="Change its arguments; it accepts"):
        build_model(ModelOptions(model="torchvision:squeezenet1_1", arguments=arguments))


def test_a_failing_factory_is_quoted_with_its_place(own_module: str) -> None:
    with pytest.raises(ModelError, match=r"IndexError: .* \(own_factories\.py, line 14\)"):
        build_model(ModelOptions(model=f"{own_module}:broken"))


def test_a_factory_that_returns_something_else_is_refused(own_module: str) -> None:
    with pytest.raises(ModelError, match=r"gave a str\. Name a factory that returns a torch\.nn\.Module"):
        build_model(ModelOptions(model=f"{own_module}:text"))


def test_a_misspelt_origin_is_refused() -> None:
    with pytest.raises(ModelError, match="other models are torchvision:NAME, timm:NAME, hf:FOLDER and softlab:NAME"):
        build_model(ModelOptions(model="torchvison:resnet18"))


def test_a_missing_timm_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)  # Python then says that it can't be imported

    with pytest.raises(ModelError, match=re.escape("pip install 'softlab[timm]'")):
        build_model(ModelOptions(model="timm:test_vit"))

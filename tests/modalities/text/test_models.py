import warnings

import pytest
import torch
from torch import Tensor, nn

from softlab.models.build import ModelOptions, build_model
from softlab.models.taps import FeatureTaps, parse_tap

MODELS = ("softlab:text_bag", "softlab:text_lstm", "softlab:text_transformer")
TOLD = {"vocab_size": 30, "pad_id": 0, "max_length": 12}


def build(name: str, **arguments: object) -> nn.Module:
    torch.manual_seed(0)
    return build_model(
        ModelOptions(model=name, arguments={"num_classes": 3, "width": 16, **arguments}), told=TOLD
    ).eval()


def inputs(texts: list[list[int]], *, length: int) -> dict[str, Tensor]:
    ids_BL = torch.tensor([text + [0] * (length - len(text)) for text in texts])
    return {"input_ids": ids_BL, "attention_mask": (ids_BL > 0).long()}


@pytest.mark.parametrize("is_training", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_what_a_text_gives_does_not_depend_on_the_padding_of_its_batch(name: str, is_training: bool) -> None:
    model, texts = build(name), [[2, 7, 3], [2, 9, 8, 11, 5, 6, 3]]

    with warnings.catch_warnings(), torch.set_grad_enabled(is_training):  # without, layers take a faster path
        warnings.simplefilter("error")
        together = model(**inputs(texts, length=7))
        wide = model(**inputs(texts, length=12))
        alone = torch.cat([model(**inputs([text], length=len(text))) for text in texts])

    assert together.shape == (2, 3)
    torch.testing.assert_close(together, alone)
    torch.testing.assert_close(wide, alone)


@pytest.mark.parametrize("name", MODELS[1:])
def test_padding_never_enters_the_mean_of_a_feature(name: str) -> None:
    model, taps = build(name), {"mean": parse_tap("tokens:mean"), "first": parse_tap("tokens:cls")}
    found = []
    for length in (3, 9):
        with FeatureTaps(model, taps) as tapped, torch.no_grad():
            model(**inputs([[2, 7, 3]], length=length))
            found.append(tapped.collect())

    torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize("name", MODELS)
def test_models_learn_every_weight(name: str) -> None:
    model = build(name, dropout=0.0) if name != MODELS[0] else build(name)

    model(**inputs([[2, 7, 3], [2, 5, 0]], length=3)).square().sum().backward()

    assert all(parameter.grad is not None for parameter in model.parameters())


def test_what_the_input_tells_gives_way_to_what_arguments_say() -> None:
    model = build("softlab:text_bag", vocab_size=77)

    assert model.get_submodule("embedding").weight.shape == (77, 16)

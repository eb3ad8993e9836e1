"""A model's layers over several devices: which goes where, and that it gives the same."""

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from softlab.errors import InvalidOption
from softlab.models.hugging_face import make_hugging_face_model
from softlab.models.split import choose_places, split_over_gpus, spread
from tests.modalities.tokens.llamas import save_llama

GPUS = tuple(torch.device("cuda", number) for number in range(3))
IDS_BL = torch.tensor([[0, 5, 7, 9], [0, 8, 6, 4]])


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_llama(tmp_path_factory.mktemp("llama"), num_hidden_layers=6)


def build(llama: Path) -> nn.Module:
    return make_hugging_face_model(str(llama), False, task="causal").eval()


def bytes_of(module: nn.Module) -> int:
    return sum(each.nbytes for each in module.parameters())


def logits_of(model: nn.Module) -> Tensor:
    with torch.no_grad():
        whole: Tensor = model(input_ids=IDS_BL)["logits"].whole()
    return whole


def test_each_gpu_has_the_layers_that_it_has_room_for_one_after_another(llama: Path) -> None:
    model = build(llama)
    layer = bytes_of(model.get_submodule("model.layers.0"))
    beside = bytes_of(model) - 6 * layer + 99  # and some numbers that aren't weights

    even = choose_places(model, free={gpu: 4 * layer + beside * (gpu == GPUS[0]) for gpu in GPUS})
    uneven = choose_places(model, free={GPUS[0]: beside + 999, GPUS[1]: 2 * layer + 99, GPUS[2]: 4 * layer + 99})

    names = [f"model.layers.{number}" for number in range(6)]
    assert list(even) == list(uneven) == names
    assert [GPUS.index(even[name]) for name in names] == [0, 0, 1, 1, 2, 2]
    assert [GPUS.index(uneven[name]) for name in names] == [1, 1, 2, 2, 2, 2]


@pytest.mark.parametrize("free", [10, 60_000])
def test_too_little_room_is_refused_with_what_is_needed(llama: Path, free: int) -> None:
    with pytest.raises(InvalidOption, match=r"^dump\.split: the weights take 321\.\d kB, and 3 GPUs have "):
        choose_places(build(llama), free=dict.fromkeys(GPUS, free))


def test_a_model_that_does_not_tell_its_layers_is_refused() -> None:
    with pytest.raises(InvalidOption, match=r"^dump\.split: Sequential doesn't tell what its equal layers are"):
        choose_places(nn.Sequential(nn.Linear(1, 1)), free=dict.fromkeys(GPUS, 1 << 30))


def test_without_several_gpus_it_is_refused() -> None:
    found = f"found {torch.cuda.device_count()} GPU"
    if torch.cuda.device_count() > 1:
        pytest.skip("has several GPUs")

    with pytest.raises(InvalidOption, match=f"^{re.escape(f'dump.split: {found}')}.*Leave `dump.split` out"):
        split_over_gpus(nn.Linear(1, 1))


def test_each_part_moves_what_it_is_called_with_until_that_is_ended(llama: Path) -> None:
    """On `meta` a tensor has a shape alone, so that a layer there shows what has moved to it."""
    model, cpu = build(llama), torch.device("cpu")
    expected, seen = logits_of(model), list[str]()
    names = [f"model.layers.{number}" for number in range(6)]
    for name in names:
        model.get_submodule(name).register_forward_hook(lambda *_, name=name: seen.append(name))

    handles = spread(model, dict.fromkeys(names, cpu), first=cpu)
    found = logits_of(model)
    spread(model, {names[5]: torch.device("meta")}, first=cpu)
    moved = model.get_submodule("model.layers.5")(torch.zeros(1, 2, 32), position_embeddings=(torch.ones(1, 2, 8),) * 2)

    assert found.equal(expected)
    assert seen == [*names, "model.layers.5"]
    assert len(handles) == 6 + 4  # embeddings, norm, rotary embeddings and the output layer
    assert (moved[0] if isinstance(moved, tuple) else moved).device.type == "meta"
    assert next(model.get_submodule("model.layers.4").parameters()).device == cpu


@pytest.mark.gpu
def test_on_real_gpus_it_gives_what_one_gives(llama: Path) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    model, alone = build(llama), logits_of(build(llama))

    handles = split_over_gpus(model)
    with torch.no_grad():
        found = model(input_ids=IDS_BL.cuda())["logits"].whole()

    assert {each.device.index for each in model.parameters()} == set(range(torch.cuda.device_count()))
    assert found.device.index == 0
    torch.testing.assert_close(found.cpu(), alone, rtol=1e-3, atol=1e-3)
    for handle in handles:
        handle.remove()

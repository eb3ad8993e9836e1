import os
import re
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torchvision.models
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from softlab.errors import ModelError
from softlab.modalities.images.models import grey_cnn, grey_mlp
from softlab.models.weights import load_weights, weights_fingerprint


class CodeInAPickle:
    """Something that only unpickling, that is running code, brings back."""


class Named(nn.Module):
    """A model whose state dict is what it was given, in that order."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)


@pytest.fixture
def saved() -> nn.Module:
    return grey_cnn(width=4)


@pytest.fixture
def model() -> nn.Module:
    return grey_cnn(width=4)


def test_safetensors_are_loaded(saved: nn.Module, model: nn.Module, tmp_path: Path) -> None:
    safetensors.torch.save_file(saved.state_dict(), tmp_path / "weights.safetensors")

    load_weights(model, tmp_path / "weights.safetensors")

    assert weights_fingerprint(model) == weights_fingerprint(saved)


@pytest.mark.parametrize("entry", ["state_dict", "model"])
def test_a_checkpoint_is_unwrapped(entry: str, saved: nn.Module, model: nn.Module, tmp_path: Path) -> None:
    torch.save({"epoch": 3, entry: saved.state_dict()}, tmp_path / "checkpoint.pth")

    load_weights(model, tmp_path / "checkpoint.pth")

    assert weights_fingerprint(model) == weights_fingerprint(saved)


def test_the_prefix_of_data_parallel_is_taken_off(saved: nn.Module, model: nn.Module, tmp_path: Path) -> None:
    torch.save(nn.DataParallel(saved).state_dict(), tmp_path / "weights.pt")

    load_weights(model, tmp_path / "weights.pt")

    assert weights_fingerprint(model) == weights_fingerprint(saved)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "model.", "student.", "module._orig_mod.", "model.module."])
def test_prefixes_of_wrappers_are_taken_off(prefix: str, saved: nn.Module, model: nn.Module, tmp_path: Path) -> None:
    torch.save({f"{prefix}{name}": tensor for name, tensor in saved.state_dict().items()}, tmp_path / "weights.pt")

    load_weights(model, tmp_path / "weights.pt")

    assert weights_fingerprint(model) == weights_fingerprint(saved)


def test_of_raw_and_averaged_weights_one_must_be_named(saved: nn.Module, model: nn.Module, tmp_path: Path) -> None:
    averaged = torch.optim.swa_utils.AveragedModel(saved)
    path, raw = tmp_path / "checkpoint.pth", grey_cnn(width=4)
    torch.save({"epoch": 3, "model": raw.state_dict(), "model_ema": averaged.state_dict()}, path)

    with pytest.raises(ModelError, match=r'2 sets .*: model, model_ema\. Name one .*weights_entry = "model_ema"'):
        load_weights(model, path)
    with pytest.raises(ModelError, match=r"no entry of weights 'ema'\. .*model"):
        load_weights(model, path, entry="ema")

    load_weights(model, path, entry="model_ema")
    assert weights_fingerprint(model) == weights_fingerprint(saved)
    load_weights(model, path, entry="model")
    assert weights_fingerprint(model) == weights_fingerprint(raw)


def test_one_set_that_fits_is_taken_whatever_its_name(saved: nn.Module, model: nn.Module, tmp_path: Path) -> None:
    other = grey_cnn(width=8).state_dict()
    torch.save({"discriminator": other, "generator": saved.state_dict()}, tmp_path / "checkpoint.pth")

    load_weights(model, tmp_path / "checkpoint.pth")

    assert weights_fingerprint(model) == weights_fingerprint(saved)


def test_a_layer_that_is_left_out_keeps_what_the_model_has(saved: nn.Module, tmp_path: Path) -> None:
    path, model = tmp_path / "weights.pt", grey_cnn(width=4, num_classes=3)
    torch.save(saved.state_dict(), path)
    own = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    with pytest.raises(ModelError, match=r'2 wrong shape .*weights_except = \["classifier"\]'):
        load_weights(model, path)
    with pytest.raises(ModelError, match=r"no layer 'head'\. Known: classifier"):
        load_weights(model, path, leave_out=["head"])
    load_weights(model, path, leave_out=["classifier"])

    loaded, theirs = model.state_dict(), saved.state_dict()
    assert torch.equal(loaded["classifier.weight"], own["classifier.weight"])
    assert torch.equal(loaded["conv1.weight"], theirs["conv1.weight"])


def test_the_prefix_stays_where_the_model_has_it_too(saved: nn.Module, model: nn.Module, tmp_path: Path) -> None:
    torch.save(nn.DataParallel(saved).state_dict(), tmp_path / "weights.pt")

    load_weights(nn.DataParallel(model), tmp_path / "weights.pt")

    assert weights_fingerprint(model) == weights_fingerprint(saved)


def test_values_are_cast_to_the_data_types_of_the_model(saved: nn.Module, model: nn.Module, tmp_path: Path) -> None:
    torch.save(saved.half().state_dict(), tmp_path / "weights.pt")

    load_weights(model, tmp_path / "weights.pt")

    assert weights_fingerprint(model) == weights_fingerprint(saved.float())


def test_counters_of_batch_normalisation_may_be_missing(saved: nn.Module, model: nn.Module, tmp_path: Path) -> None:
    weights = {name: tensor for name, tensor in saved.state_dict().items() if "num_batches_tracked" not in name}
    torch.save(weights, tmp_path / "weights.pt")

    load_weights(model, tmp_path / "weights.pt")

    assert weights_fingerprint(model) == weights_fingerprint(saved)


def test_a_layer_that_insists_on_its_version_loads_from_safetensors(tmp_path: Path) -> None:
    saved, model = torchvision.models.mnasnet0_5(num_classes=2), torchvision.models.mnasnet0_5(num_classes=2)
    safetensors.torch.save_file(saved.state_dict(), tmp_path / "weights.safetensors")

    load_weights(model, tmp_path / "weights.safetensors")

    assert weights_fingerprint(model) == weights_fingerprint(saved)


def test_all_keys_that_do_not_fit_are_reported_at_once(model: nn.Module, tmp_path: Path) -> None:
    weights = model.state_dict()
    weights["head.bias"] = weights.pop("classifier.bias")
    weights["classifier.weight"] = torch.zeros(5, 16)
    torch.save(weights, tmp_path / "weights.pt")

    with pytest.raises(ModelError) as raised:
        load_weights(model, tmp_path / "weights.pt")

    assert str(raised.value).removeprefix(str(tmp_path / "weights.pt")) == (
        ": doesn't fit the model: 1 missing (classifier.bias); 1 unexpected (head.bias); "
        "1 wrong shape (classifier.weight (5, 16) instead of (10, 16)). "
        "Set `model` and `arguments` (e.g. num_classes) as they were when these weights were saved."
    )


def test_only_the_first_of_many_keys_are_shown(model: nn.Module, tmp_path: Path) -> None:
    torch.save(grey_mlp().state_dict(), tmp_path / "weights.pt")

    with pytest.raises(ModelError, match=r"17 missing \(conv1\.weight, norm1\.weight, norm1\.bias, \.\.\.\); 6 unexp"):
        load_weights(model, tmp_path / "weights.pt")


def test_weights_that_do_not_fit_leave_the_model_as_it_was(model: nn.Module, tmp_path: Path) -> None:
    before = weights_fingerprint(model)
    torch.save(grey_cnn(width=4, num_classes=3).state_dict(), tmp_path / "weights.pt")

    with pytest.raises(ModelError):
        load_weights(model, tmp_path / "weights.pt")

    assert weights_fingerprint(model) == before


@pytest.mark.parametrize("content", [CodeInAPickle(), grey_mlp()], ids=["object", "whole model"])
def test_a_file_that_would_run_code_says_how_to_convert_it(content: object, model: nn.Module, tmp_path: Path) -> None:
    torch.save({"model": content}, tmp_path / "weights.pt")

    with pytest.raises(ModelError, match=re.escape('save its weights alone: torch.save(model.state_dict(), "weights')):
        load_weights(model, tmp_path / "weights.pt")


@pytest.mark.parametrize(
    ("content", "found"),
    [([torch.zeros(2)], "holds a list"), ({"epoch": 3}, "entry `epoch` is a int")],
)
def test_a_file_without_named_tensors_is_refused(content: object, found: str, model: nn.Module, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "weights.pt")

    with pytest.raises(ModelError, match=rf"{found}.* Save model\.state_dict\(\)"):
        load_weights(model, tmp_path / "weights.pt")


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
@pytest.mark.parametrize("content", [b"", b"hello " * 9], ids=["empty", "text"])
def test_a_file_of_something_else_is_refused(content: bytes, name: str, model: nn.Module, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(ModelError, match=r"Expected a \.safetensors file or one written by torch\.save"):
        load_weights(model, tmp_path / name)


def test_a_pickle_of_another_protocol_is_refused_without_a_word_of_torch(model: nn.Module, tmp_path: Path) -> None:
    torch.save({"state_dict": 3}, tmp_path / "model.pt", pickle_protocol=4)

    with pytest.raises(ModelError, match="holds more than tensors"):  # a warning would be another error
        load_weights(model, tmp_path / "model.pt")


def test_a_flipped_bit_of_a_pytorch_file_is_found(saved: nn.Module, model: nn.Module, tmp_path: Path) -> None:
    torch.save(saved.state_dict(), tmp_path / "model.pt")
    data = bytearray((tmp_path / "model.pt").read_bytes())
    data[data.index(next(saved.parameters()).detach().numpy().tobytes()) + 5] ^= 1
    (tmp_path / "model.pt").write_bytes(data)

    with pytest.raises(ModelError, match=r"model\.pt: is damaged: the checksum of .* is wrong\. Copy it again"):
        load_weights(model, tmp_path / "model.pt")


@pytest.mark.parametrize("name", ["model.safetensors", "model.pt"])
def test_a_pipe_is_not_waited_for(name: str, model: nn.Module, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)

    with pytest.raises(ModelError, match=f"{name}: is a folder, a pipe or a device"):
        load_weights(model, tmp_path / name)


def test_half_a_file_is_refused(model: nn.Module, tmp_path: Path) -> None:
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    content = (tmp_path / "weights.pt").read_bytes()
    (tmp_path / "weights.pt").write_bytes(content[: len(content) // 2])

    with pytest.raises(ModelError, match="copy it again"):
        load_weights(model, tmp_path / "weights.pt")


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
def test_a_missing_file_is_named(name: str, model: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=rf"{name}: no such file\. Check `weights`"):
        load_weights(model, tmp_path / name)


named_tensors = st.dictionaries(
    st.sampled_from("abcd"),
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=4).map(torch.tensor),
    min_size=1,
)


@given(named_tensors, st.data())
def test_the_fingerprint_does_not_depend_on_the_order_of_layers(named: dict[str, Tensor], data: st.DataObject) -> None:
    shuffled = {name: named[name] for name in data.draw(st.permutations(list(named)))}

    assert weights_fingerprint(Named(shuffled)) == weights_fingerprint(Named(named))


@given(named_tensors, st.data())
def test_the_fingerprint_changes_with_any_one_value(named: dict[str, Tensor], data: st.DataObject) -> None:
    before = weights_fingerprint(Named(named))
    tensor = named[data.draw(st.sampled_from(sorted(named)))]
    at = data.draw(st.integers(0, len(tensor) - 1))
    tensor[at] = torch.nextafter(tensor[at], torch.tensor(torch.inf))

    assert weights_fingerprint(Named(named)) != before


@pytest.mark.parametrize(
    "other",
    [
        {"b": torch.zeros(2, 2)},
        {"a": torch.zeros(4)},
        {"a": torch.zeros(2, 2, dtype=torch.int32)},
        {"a": torch.zeros(2, 2), "b": torch.zeros(0)},
    ],
    ids=["name", "shape", "data type", "an empty tensor more"],
)
def test_the_fingerprint_changes_with(other: dict[str, Tensor]) -> None:
    assert weights_fingerprint(Named(other)) != weights_fingerprint(Named({"a": torch.zeros(2, 2)}))


def test_the_fingerprint_takes_any_layout_and_data_type() -> None:
    named = {
        "scalar": torch.tensor(1),
        "brain_float": torch.ones(2, dtype=torch.bfloat16),
        "turned": torch.rand(2, 3).T,
    }
    contiguous = {name: tensor.contiguous() for name, tensor in named.items()}

    assert weights_fingerprint(Named(named)) == weights_fingerprint(Named(contiguous))


@pytest.mark.filterwarnings(
    "ignore:torch.ao.quantization:DeprecationWarning", "ignore:torch.quantize_per_tensor:UserWarning"
)
def test_packed_weights_of_quantized_layers_have_a_fingerprint() -> None:
    def quantized(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        layers: nn.Module = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(3, 5)))  # type: ignore[no-untyped-call]
        return layers

    found = [weights_fingerprint(quantized(seed)) for seed in (0, 0, 1)]

    assert found[0] == found[1] != found[2]

"""Reads weights into a model without unpickling objects, and tells models apart by their weights."""

import json
import warnings
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from weakref import WeakKeyDictionary
from zipfile import ZipFile, is_zipfile

import safetensors.torch
import torch
from blake3 import blake3
from torch import Tensor, nn

from softlab.errors import ModelError, suggest

Weights = dict[str, Tensor]

PREFIXES = ("module.", "_orig_mod.", "model.", "student.")
"""Of DataParallel and AveragedModel, torch.compile, Lightning's modules, and trainers of pairs."""

_SHOWN_KEYS = 3

HASH_ENTRY = "softlab.weights_blake3"
"""Of a .safetensors file: what `weights_fingerprint` says of its tensors."""

_KNOWN: MutableMapping[nn.Module, str] = WeakKeyDictionary()
"""Fingerprints of models whose weights aren't all in this process."""

HEADER_START = 8
"""Bytes of a .safetensors file that tell how long its header is."""


def load_weights(model: nn.Module, path: Path, *, entry: str | None = None, leave_out: Sequence[str] = ()) -> None:
    """Copies the tensors of a `.safetensors` or PyTorch file into the model, all or none.

    Of a checkpoint, the entry that fits the model is taken, or the one named; with several that fit, as the raw weights
    and their moving average do, one must be named. A prefix that wrappers put before every name (`PREFIXES`) is taken
    off. The layers of `leave_out` keep what the model has. Values are cast to the model's data types.
    """
    state = model.state_dict()
    needed = _without_layers(state, leave_out, path)
    weights = _choose_weights(_read(path), needed, path, entry=entry, leave_out=leave_out)
    _check_fit(weights, needed, path)
    state.update(weights)  # the model's own state dict carries the layer versions that some layers insist on
    model.load_state_dict(state)


def encode_weights(weights: Mapping[str, Tensor], *, metadata: Mapping[str, str] | None = None) -> bytes:
    """A .safetensors file that tells a hash of its own tensors, so that `load_weights` finds a changed bit."""
    entries = {HASH_ENTRY: tensors_fingerprint(weights)} | dict(metadata or {})
    return _in_order(safetensors.torch.save(dict(weights), metadata=entries))


def _in_order(data: bytes) -> bytes:
    """The same file with its metadata sorted by name: safetensors writes them in another order each time."""
    length = int.from_bytes(data[:HEADER_START], "little")
    header = json.loads(data[HEADER_START : HEADER_START + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(length)
    assert len(text) == length, "the same entries in another order"
    return data[:HEADER_START] + text + data[HEADER_START + length :]


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file. Raises ModelError for one that is damaged."""
    weights = _read(path)
    assert isinstance(weights, dict), "as every .safetensors file is"
    return weights


def weights_fingerprint(model: nn.Module) -> str:
    """BLAKE3 over the names, data types, shapes and bytes of all parameters and buffers, sorted by name."""
    known = _KNOWN.get(model)
    return tensors_fingerprint(model.state_dict()) if known is None else known


def remember_fingerprint(model: nn.Module, fingerprint: str) -> None:
    """Of a model whose weights aren't all in this process."""
    _KNOWN[model] = fingerprint


def tensors_fingerprint(weights: Mapping[str, Any]) -> str:
    """The same over any tensors by name. What else a state holds, as that of quantized layers does, counts too."""
    hasher = blake3()
    for name in sorted(weights):
        value = weights[name]
        if isinstance(value, Tensor) and not value.is_quantized:
            hasher.update(f"{name}\0{value.dtype}\0{tuple(value.shape)}\0".encode())
            hasher.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
        else:
            hasher.update(f"{name}\0{_told(value)}\0".encode())
    return hasher.hexdigest()


def _told(value: object) -> str:
    """Of a part of a state that is no plain tensor."""
    if isinstance(value, Tensor):
        values = value.dequantize() if value.is_quantized else value
        return f"{value.dtype} {tensors_fingerprint({'': values})}"
    if isinstance(value, Mapping):
        return str({name: _told(each) for name, each in value.items()})
    return str([_told(each) for each in value]) if isinstance(value, list | tuple) else repr(value)


def _read(path: Path) -> object:
    if path.exists() and not path.is_file():  # a pipe or a device has no end
        raise ModelError(
            f"{path}: is a folder, a pipe or a device. Expected a .safetensors file, or one of torch.save."
        )
    try:
        if path.suffix == ".safetensors":
            return _checked(safetensors.torch.load_file(path), path)
        _check_sums(path)
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # torch's, of pickles that others wrote
            return torch.load(path, weights_only=True, map_location="cpu")
    except FileNotFoundError as error:
        raise ModelError(f"{path}: no such file. Check `weights`.") from error
    except ModelError:
        raise
    except UnpicklingError as error:
        raise ModelError(
            f"{path}: holds more than tensors, and reading it could run code, which softlab never does. "
            f"If you trust it, read it once with torch.load(..., weights_only=False), "
            f'and save its weights alone: torch.save(model.state_dict(), "weights.pt").'
        ) from error
    except Exception as error:  # damaged files raise KeyError, EOFError, RuntimeError and others
        raise ModelError(
            f"{path}: can't be read as weights ({type(error).__name__}: {error}). "
            f"Expected a .safetensors file or one written by torch.save; copy it again."
        ) from error


def _check_sums(path: Path) -> None:
    """Of a file of torch.save, which torch writes and doesn't compare."""
    if not is_zipfile(path):
        return
    with ZipFile(path) as opened:
        wrong = opened.testzip()
    if wrong is not None:
        raise ModelError(
            f"{path}: is damaged: the checksum of {wrong} is wrong. Copy it again; if it was saved without checksums "
            f"(torch.serialization.set_crc32_options), save it once more with them."
        )


def _checked(weights: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    with safetensors.safe_open(path, framework="pt") as file:
        expected = (file.metadata() or {}).get(HASH_ENTRY)
    if expected is not None and expected != tensors_fingerprint(weights):
        raise ModelError(
            f"{path}: is damaged: its weights are not those that were written. Get the file back from a copy, or train "
            f"again with `log.resume = no`."
        )
    return weights


def _choose_weights(
    content: object, needed: Weights, path: Path, *, entry: str | None, leave_out: Sequence[str]
) -> Weights:
    entries = _entries(content)
    if entry is not None:
        if entry not in entries:
            raise ModelError(f"{path}: has no entry of weights {entry!r}. {suggest(entry, entries)}")
        return _fitted(entries[entry], needed, leave_out)
    fitted = {name: _fitted(weights, needed, leave_out) for name, weights in entries.items()}
    fitting = [name for name, weights in fitted.items() if not any(_findings(weights, needed).values())]
    if len(fitting) > 1:
        raise ModelError(
            f"{path}: holds {len(fitting)} sets of weights that fit the model: {', '.join(fitting)}. Name one beside "
            f'`weights`, as weights_entry = "{fitting[-1]}".'
        )
    return fitted[fitting[0]] if fitting else _fitted(_state_dict(content, path), needed, leave_out)


def _entries(content: object) -> dict[str, Weights]:
    """The sets of weights of a checkpoint by name."""
    if not isinstance(content, Mapping):
        return {}
    sets = {name: value for name, value in content.items() if isinstance(value, Mapping) and value}
    return {
        name: dict(value) for name, value in sets.items() if all(isinstance(each, Tensor) for each in value.values())
    }


def _state_dict(content: object, path: Path) -> Weights:
    for entry in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(entry), Mapping):
            content = content[entry]
    if not isinstance(content, Mapping):
        raise ModelError(f"{path}: holds a {type(content).__name__}, not tensors by name. Save model.state_dict().")
    for name, value in content.items():
        if not isinstance(value, Tensor):
            raise ModelError(
                f"{path}: entry `{name}` is a {type(value).__name__}, not a tensor. "
                f"Save model.state_dict() alone, or as the entry `state_dict`."
            )
    return dict(content)


def _fitted(weights: Weights, needed: Weights, leave_out: Sequence[str]) -> Weights:
    """Without the prefix of wrappers where that makes the names fit, and without layers that are left out."""
    whole = kept = {name: tensor for name, tensor in weights.items() if not _is_of(name, leave_out)}
    stripped = {name: tensor for name, tensor in weights.items() if name != "n_averaged"}  # of an AveragedModel
    while not kept.keys() <= needed.keys():
        prefix = next((each for each in PREFIXES if stripped and all(name.startswith(each) for name in stripped)), None)
        if prefix is None:
            return whole
        stripped = {name.removeprefix(prefix): tensor for name, tensor in stripped.items()}
        kept = {name: tensor for name, tensor in stripped.items() if not _is_of(name, leave_out)}
    return kept


def _without_layers(state: Weights, layers: Sequence[str], path: Path) -> Weights:
    for layer in layers:
        if not any(_is_of(name, [layer]) for name in state):
            known = dict.fromkeys(name.rpartition(".")[0] for name in reversed(state))
            raise ModelError(f"{path}: weights_except: the model has no layer {layer!r}. {suggest(layer, known)}")
    return {name: tensor for name, tensor in state.items() if not _is_of(name, layers)}


def _is_of(name: str, layers: Sequence[str]) -> bool:
    return any(name == layer or name.startswith(f"{layer}.") for layer in layers)


def _findings(weights: Weights, needed: Weights) -> dict[str, list[str]]:
    # Files from before PyTorch 0.4.1 lack the counters of batch normalisation, which inference doesn't use.
    missing = [name for name in needed if name not in weights and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in weights if name not in needed]
    wrong_shape = [
        f"{name} {tuple(tensor.shape)} instead of {tuple(needed[name].shape)}"
        for name, tensor in weights.items()
        if name in needed and tensor.shape != needed[name].shape
    ]
    return {"missing": missing, "unexpected": unexpected, "wrong shape": wrong_shape}


def _check_fit(weights: Weights, needed: Weights, path: Path) -> None:
    findings = _findings(weights, needed)
    if not any(findings.values()):
        return
    found = "; ".join(_shown(kind, names) for kind, names in findings.items() if names)
    layers = {name.split(" ")[0].rpartition(".")[0] for name in findings["wrong shape"]}
    is_head = len(layers) == 1 and not findings["missing"] and not findings["unexpected"]
    hint = f' To train this layer anew, say weights_except = ["{layers.pop()}"] beside `weights`.' if is_head else ""
    raise ModelError(
        f"{path}: doesn't fit the model: {found}. Set `model` and `arguments` (e.g. num_classes) as they were "
        f"when these weights were saved.{hint}"
    )


def _shown(kind: str, names: list[str]) -> str:
    more = ", ..." if len(names) > _SHOWN_KEYS else ""
    return f"{len(names):,} {kind} ({', '.join(names[:_SHOWN_KEYS])}{more})"

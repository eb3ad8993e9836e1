"""Reads weights into a model without unpickling objects, and tells models apart by their weights."""

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError

import safetensors.torch
import torch
from blake3 import blake3
from torch import Tensor, nn

from softlab.errors import ModelError

_SHOWN_KEYS = 3

HASH_ENTRY = "softlab.weights_blake3"
"""Of a .safetensors file: what `weights_fingerprint` says of its tensors."""


def load_weights(model: nn.Module, path: Path) -> None:
    """Copies the tensors of a `.safetensors` or PyTorch file into the model, all or none.

    A checkpoint with an entry `state_dict` or `model` is read from that entry. The prefix `module.`, which
    `DataParallel` puts before every key, is taken off. Values are cast to the model's data types.
    """
    state = model.state_dict()
    weights = _without_prefix(_state_dict(_read(path), path), state)
    _check_fit(weights, state, path)
    state.update(weights)  # the model's own state dict carries the layer versions that some layers insist on
    model.load_state_dict(state)


def encode_weights(weights: Mapping[str, Tensor]) -> bytes:
    """A .safetensors file that tells a hash of its own tensors, so that `load_weights` finds a changed bit."""
    return safetensors.torch.save(dict(weights), metadata={HASH_ENTRY: _fingerprint(weights)})


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file. Raises ModelError for one that is damaged."""
    weights = _read(path)
    assert isinstance(weights, dict), "as every .safetensors file is"
    return weights


def weights_fingerprint(model: nn.Module) -> str:
    """BLAKE3 over the names, data types, shapes and bytes of all parameters and buffers, sorted by name."""
    return _fingerprint(model.state_dict())


def _fingerprint(weights: Mapping[str, Tensor]) -> str:
    hasher = blake3()
    for name, tensor in sorted(weights.items()):
        hasher.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        hasher.update(tensor.cpu().reshape(-1).view(torch.uint8).numpy().data)
    return hasher.hexdigest()


def _read(path: Path) -> object:
    try:
        if path.suffix == ".safetensors":
            return _checked(safetensors.torch.load_file(path), path)
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


def _checked(weights: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    with safetensors.safe_open(path, framework="pt") as file:
        expected = (file.metadata() or {}).get(HASH_ENTRY)
    if expected is not None and expected != _fingerprint(weights):
        raise ModelError(
            f"{path}: is damaged: its weights are not those that were written. Get the file back from a copy, or train "
            f"again with `log.resume = no`."
        )
    return weights


def _state_dict(content: object, path: Path) -> dict[str, Tensor]:
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


def _without_prefix(weights: dict[str, Tensor], state: dict[str, Tensor]) -> dict[str, Tensor]:
    if all(name.startswith("module.") for name in weights) and not any(name.startswith("module.") for name in state):
        return {name.removeprefix("module."): tensor for name, tensor in weights.items()}
    return weights


def _check_fit(weights: dict[str, Tensor], state: dict[str, Tensor], path: Path) -> None:
    # Files from before PyTorch 0.4.1 lack the counters of batch normalisation, which inference doesn't use.
    missing = [name for name in state if name not in weights and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in weights if name not in state]
    wrong_shape = [
        f"{name} {tuple(tensor.shape)} instead of {tuple(state[name].shape)}"
        for name, tensor in weights.items()
        if name in state and tensor.shape != state[name].shape
    ]
    findings = {"missing": missing, "unexpected": unexpected, "wrong shape": wrong_shape}
    if any(findings.values()):
        found = "; ".join(_shown(kind, names) for kind, names in findings.items() if names)
        raise ModelError(
            f"{path}: doesn't fit the model: {found}. Set `model` and `arguments` (e.g. num_classes) as they were "
            f"when these weights were saved."
        )


def _shown(kind: str, names: list[str]) -> str:
    more = ", ..." if len(names) > _SHOWN_KEYS else ""
    return f"{len(names):,} {kind} ({', '.join(names[:_SHOWN_KEYS])}{more})"

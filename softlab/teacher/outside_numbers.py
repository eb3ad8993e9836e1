"""Which numbers does a teacher compute with that are no part of its module? The hash of its weights doesn't know them:
tensors that a function, an object or another file holds, weights that are read in the forward pass, a model that runs
outside of torch.

All operations of a forward pass are watched. A tensor that goes into one, and is neither a parameter, nor a buffer, nor
an input, nor the result of another operation, comes from outside.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from softlab.identity import digest_of
from softlab.loading.batch import Batch
from softlab.models.weights import tensors_fingerprint, weights_fingerprint
from softlab.teacher.forward import TeacherRun


@dataclass(frozen=True, kw_only=True, slots=True)
class OutsideNumbers:
    """Of one teacher."""

    constants: tuple[str, ...]
    """Hashes of tensors that are the same whatever the samples: weights, for example."""

    is_unseen: bool
    """Whether numbers that hang on the samples come from outside, or nothing at all is known of what it computes with:
    then it is somewhere else that it computes."""

    outputs: str
    """Hash of what it gives for the samples that it was watched with."""


def watch(run: TeacherRun, first: Batch, second: Batch) -> OutsideNumbers:
    """Runs the teacher on two batches of other samples, as many in each; not compiled."""
    one, two = _Watched(run, first), _Watched(run, second)
    again = {id(each) for each in two.found}
    # What a forward pass has made, and the next one uses again, is a cache of what is known.
    found = [each for each in one.found if not (each.is_inference() and id(each) in again)]
    hashes, again_hashes = (list(map(_digest, each)) for each in (found, two.found))
    constants = set(hashes) & set(again_hashes)
    return OutsideNumbers(
        constants=tuple(sorted(constants)),
        is_unseen=set(hashes) != constants or not (constants or run.module.state_dict()),
        outputs=tensors_fingerprint({name: rows.known for name, rows in one.whole.all_rows.items()}),
    )


def teacher_fingerprint(module: nn.Module, outside: OutsideNumbers, *, version: str | None, settled: str | None) -> str:
    """The hash of its weights, if that is all. Else one that covers numbers from outside too, or, where they can't be
    seen, its version, or what it gives. What it gives differs in the last bits on another device: a dump that was begun
    keeps the fingerprint that is `settled`, and the teacher's outputs are compared with what is stored."""
    weights = weights_fingerprint(module)
    if version is not None:
        return _joined("version", version, weights)
    if outside.is_unseen:
        return settled or _joined("outputs", outside.outputs, weights)
    if outside.constants and settled != weights:
        return _joined("constants", *outside.constants, weights)
    return weights


class _Watched(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """One forward pass: what it gave, and the tensors from outside."""

    def __init__(self, run: TeacherRun, batch: Batch) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[Tensor] = []
        self._known = WeakTensorKeyDictionary()
        state = [*run.module.parameters(), *run.module.buffers()]
        self._memory = {_memory_of(each) for each in state}  # `parameter.data` is another tensor
        self._learn([*state, *(tensor for each in batch.inputs for tensor in each.inputs.tensors())])
        with self:
            self.whole = run.whole(batch, compiled=False)
        self._look([rows.known for rows in self.whole.all_rows.values()])

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self._look((args, kwargs))
        result = func(*args, **(kwargs or {}))
        if any(isinstance(each, torch.UntypedStorage) for each in args):  # so `torch.load` fills an empty tensor
            if result in self._known:
                del self._known[result]
        else:
            self._learn(result)
        return result

    def _learn(self, value: object) -> None:
        for each in tree_leaves(value):
            if isinstance(each, Tensor):
                self._known[each] = True

    def _look(self, value: object) -> None:
        """Integers are places and sizes, and single numbers stand in the code."""
        for each in tree_leaves(value):
            is_weight = isinstance(each, Tensor) and each.is_floating_point() and each.ndim > 0
            if is_weight and each not in self._known and _memory_of(each) not in self._memory:
                self.found.append(each)
                self._learn(each)


def _memory_of(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr() if tensor.layout == torch.strided else 0


def _digest(tensor: Tensor) -> str:
    return tensors_fingerprint({"": tensor})


def _joined(*parts: str) -> str:
    return digest_of("\0".join(parts).encode())

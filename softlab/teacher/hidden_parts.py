"""Is all that a teacher computes with part of it? A module or tensor in a plain list is not: it isn't put into eval
mode, isn't moved to a device, and isn't in the fingerprint, so that other weights pass for the same ones."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import FunctionType, MethodType

from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from softlab.errors import TeacherError

OWN_TO_TORCH = frozenset(vars(nn.Module()))
MAX_DEPTH = 4
"""Of containers in containers."""


def check_nothing_hidden(module: nn.Module) -> None:
    """Raises TeacherError for attributes with modules or tensors that aren't registered, naming the first one."""
    registered = _state(module)
    values = {id(each) for each in registered}
    for owner_name, owner in module.named_modules():
        for attribute, value in vars(owner).items():
            if attribute in OWN_TO_TORCH:
                continue
            path = f"{owner_name}.{attribute}" if owner_name else attribute
            for where, part in _parts(value, path):
                if isinstance(part, nn.Module):
                    if any(id(each) not in values for each in _state(part)):
                        raise TeacherError(_hidden_module(where, part))
                elif not _is_derived(part, owner, registered, is_attribute=where == path):
                    raise TeacherError(_hidden_tensor(where, part))


@contextmanager
def only_own_modules(module: nn.Module) -> Iterator[None]:
    """Inside, a forward pass that runs a module with weights which aren't the teacher's raises TeacherError: such as
    one that is held by a function, or by an object that is no module."""
    own, values = {id(each) for each in module.modules()}, {id(each) for each in _state(module)}

    def check(run: nn.Module, inputs: object, output: object) -> None:
        is_replica = getattr(run, "_is_replica", False)  # of DataParallel, whose weights are copies
        if id(run) not in own and not is_replica and any(id(each) not in values for each in _state(run)):
            raise TeacherError(_hidden_module("", run))

    handle = register_module_forward_hook(check)
    try:
        yield
    finally:
        handle.remove()


def _state(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def _parts(value: object, path: str, depth: int = 0) -> Iterator[tuple[str, nn.Module | Tensor]]:
    """Modules and tensors in a value, with their place."""
    if isinstance(value, nn.Module | Tensor):
        yield path, value
        return
    if depth == MAX_DEPTH:
        return
    for name, inner in _inner(value):
        yield from _parts(inner, path + name, depth + 1)


def _inner(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        yield from ((f"[{key!r}]", inner) for key, inner in list(value.items()))
    elif isinstance(value, list | tuple | set | frozenset):
        yield from ((f"[{number}]", inner) for number, inner in enumerate(value))
    elif isinstance(value, partial):
        yield from ((".func", value.func), (".args", value.args), (".keywords", value.keywords))
    elif isinstance(value, MethodType):
        yield ".__self__", value.__self__
    elif isinstance(value, FunctionType):
        names = value.__code__.co_freevars
        for name, cell in zip(names, value.__closure__ or (), strict=True):
            try:
                yield f".{name}", cell.cell_contents
            except ValueError:  # not filled yet
                continue


def _is_derived(tensor: Tensor, owner: nn.Module, registered: list[Tensor], *, is_attribute: bool) -> bool:
    """Whether it follows from what is registered: it was computed from parameters or in a forward pass of ours, as the
    caches of some models are; a hook computes it anew, as old-style weight norm does; or it repeats a registered one,
    as the weights of an LSTM do in a list of their own."""
    if tensor.grad_fn is not None or tensor.is_inference() or (is_attribute and owner._forward_pre_hooks):
        return True
    return any(tensor is each or _are_equal(tensor, each) for each in registered)


def _are_equal(tensor: Tensor, other: Tensor) -> bool:
    is_alike = tensor.shape == other.shape and tensor.dtype == other.dtype
    return is_alike and bool((tensor.detach().cpu() == other.detach().cpu()).all())


def _hidden_module(where: str, module: nn.Module) -> str:
    kind = type(module).__name__
    found = f"`{where}` holds a {kind}" if where else f"its forward pass runs a {kind}"
    return (
        f"the teacher computes with weights that aren't registered: {found} outside of its modules, so that neither "
        f"its fingerprint nor eval mode reaches it. Hold it as an attribute of its own, or in an nn.ModuleList or "
        f"nn.ModuleDict."
    )


def _hidden_tensor(where: str, tensor: Tensor) -> str:
    kind = "parameter" if isinstance(tensor, nn.Parameter) else "tensor"
    step = "Hold it in an nn.ParameterList or nn.ParameterDict" if kind == "parameter" else "Give it to register_buffer"
    return (
        f"the teacher has a {kind} that isn't registered: `{where}`, of shape {list(tensor.shape)}, so that its "
        f"fingerprint is the same for other values. {step}."
    )

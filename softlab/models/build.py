"""Builds a model from its name: `torchvision:NAME`, `timm:NAME`, `hf:FOLDER`, `softlab:NAME` or
`package.module:factory`.

The last is code of the user's own: a class of torch.nn.Module, or a function that returns one; nothing else is called.
Nothing is downloaded unless the arguments ask for it (torchvision's `weights = "DEFAULT"`, timm's `pretrained = true`),
or where the name after `hf:` is no folder.
"""

import inspect
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FunctionType

from torch import nn

from softlab.errors import InvalidOption, ModelError, suggest
from softlab.models.hugging_face import hugging_face_factory
from softlab.models.reference import reference_models
from softlab.models.users_factory import check_factory
from softlab.models.weights import load_weights
from softlab.ranks import is_first_rank
from softlab.users_code import import_users_module

Factory = Callable[..., object]

ORIGINS = ("torchvision", "timm", "softlab", "hf")
"""Of models that are no code of the user's own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelOptions:
    """Which model to build, and the weights it gets."""

    model: str
    """torchvision:NAME, timm:NAME, hf:FOLDER (or its name on the hub), softlab:NAME (a reference model) or
    package.module:factory"""

    arguments: dict[str, object] = field(default_factory=dict)
    """keyword arguments of the model, e.g. num_classes"""

    weights: Path | None = None
    """.safetensors file, or a PyTorch file that holds only tensors; default: random weights"""

    weights_entry: str | None = None
    """which entry of the file, where several fit the model: state_dict_ema, for example; default: the one that fits"""

    weights_except: tuple[str, ...] = ()
    """layers that aren't taken from the file, such as a head for other classes"""

    def __post_init__(self) -> None:
        origin, _, name = self.model.partition(":")
        if not (origin and name):
            raise InvalidOption(
                f"model: `{self.model}` doesn't say where it comes from. "
                f"Write torchvision:NAME, timm:NAME, hf:FOLDER, softlab:NAME or package.module:factory."
            )

    @property
    def has_weights(self) -> bool:
        """Whether they come from a file, or lie beside the model itself."""
        return self.weights is not None or self.model.startswith("hf:")


def build_model(options: ModelOptions, *, told: Mapping[str, object] | None = None) -> nn.Module:
    """The model on the CPU, in training mode, with its weights loaded. Of what its input has `told`, such as the size
    of a vocabulary, it gets what it has an argument for, unless that is given.

        options = softlab.ModelOptions(model="torchvision:resnet18", arguments={"num_classes": 37})
        model = softlab.build_model(options)

    Raises ModelError for a model that isn't known or refuses its arguments, and weights that don't fit; InvalidOption
    for a factory of Python itself.
    """
    factory = _find_factory(options)
    taken = {name: value for name, value in (told or {}).items() if name in set(_keyword_arguments(factory))}
    try:
        model = factory(**taken | options.arguments)
    except Exception as error:  # whatever code of others raises here is an answer to the user's arguments
        raise ModelError(_refusal(options.model, factory, error)) from error
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"{options.model}: gave a {type(model).__name__}. Name a factory that returns a torch.nn.Module."
        )
    if options.weights is not None:
        load_weights(model, Path(options.weights), entry=options.weights_entry, leave_out=options.weights_except)
    return model


def _find_factory(options: ModelOptions) -> Factory:
    origin, _, name = options.model.partition(":")
    match origin:
        case "torchvision":
            return _torchvision_factory(name)
        case "timm":
            return _timm_factory(name)
        case "hf":
            return hugging_face_factory(name, has_weights=options.weights is not None)
        case "softlab":
            models = reference_models()
            _check_known("softlab", name, list(models))
            return models[name]
        case _:
            return _imported_factory(origin, name)


def _torchvision_factory(name: str) -> Factory:
    import torchvision.models  # takes as long as torch, and other models don't need it

    _check_known("torchvision", name, torchvision.models.list_models())
    factory: Factory = torchvision.models.get_model_builder(name)
    if "weights_backbone" in inspect.signature(factory).parameters:
        # Detection and segmentation models would download the weights of their backbone.
        return partial(factory, weights_backbone=None)
    return factory


def _timm_factory(name: str) -> Factory:
    try:
        import timm
    except ImportError as error:
        raise ModelError(f"timm:{name}: timm isn't installed. Install it: pip install 'softlab[timm]'") from error
    if not timm.is_model(name):  # knows names with a tag as well, e.g. resnet18.a1_in1k
        _check_known("timm", name, timm.list_models())
    return partial(timm.create_model, name)


def _imported_factory(module_name: str, name: str) -> Factory:
    """A factory of the user, from an installed package or from a module in the current folder."""
    try:
        module = import_users_module(module_name, tell=is_first_rank())
    except (ImportError, ValueError, TypeError) as error:
        raise ModelError(
            f"{module_name}:{name}: {error}. Install what is missing, or start from the folder that holds "
            f"`{module_name}`; other models are torchvision:NAME, timm:NAME, hf:FOLDER and "
            f"softlab:NAME."
        ) from error
    _check_known(module_name, name, [known for known, value in vars(module).items() if callable(value)])
    factory: Factory = getattr(module, name)
    check_factory(factory, model=f"{module_name}:{name}")
    return factory


def _check_known(origin: str, name: str, known: list[str]) -> None:
    if name not in known:
        raise ModelError(f"{origin}:{name}: {origin} has no such model. {suggest(name, known)}")


def _refusal(model: str, factory: Factory, error: Exception) -> str:
    place = traceback.extract_tb(error.__traceback__)[-1]
    accepted = ", ".join(sorted({*_keyword_arguments(factory), *_passed_on_arguments(error)}))
    return (
        f"{model}: {type(error).__name__}: {error} ({Path(place.filename).name}, line {place.lineno}). "
        f"Change its arguments; it accepts {accepted}."
    )


def _keyword_arguments(factory: Factory) -> Iterator[str]:
    for parameter in inspect.signature(factory).parameters.values():
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            yield parameter.name


def _passed_on_arguments(error: Exception) -> Iterator[str]:
    """Optional arguments of the class or function that refused one, where a factory had passed on its **kwargs.

    Python names it ("ResNet.__init__() got an unexpected keyword argument"), and its caller's frame holds it.
    """
    refuser = str(error).partition("()")[0].removesuffix(".__init__")
    caller, _ = list(traceback.walk_tb(error.__traceback__))[-1]
    for value in [*caller.f_locals.values(), *caller.f_globals.values()]:
        if isinstance(value, type | FunctionType) and value.__qualname__ == refuser:
            parameters = inspect.signature(value).parameters
            yield from (
                name for name in _keyword_arguments(value) if parameters[name].default is not inspect.Parameter.empty
            )

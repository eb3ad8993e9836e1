"""Models of Hugging Face's transformers: from a folder that save_pretrained wrote, or by their name on the hub.

Code that comes with a model is never run. Their inputs are named tensors: `input_ids`, `attention_mask`, and for pairs
of texts `token_type_ids`, where the model takes these.
"""

import inspect
import json
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from softlab.errors import ModelError, RandomWeights, first_few, suggest
from softlab.models.adapters import add_adapters
from softlab.models.causal_reader import HEAD_DTYPES, give_lazy_logits
from softlab.models.pair_scores import give_scores
from softlab.models.sentence_embedding import give_sentence_embeddings, pooling_for
from softlab.models.tensor_parallel import whole_fingerprint
from softlab.models.weights import remember_fingerprint
from softlab.models.word_reader import WordReader
from softlab.ranks import is_first_rank

ANSWERS = "answers"

CAUSAL = "causal"

TASKS = {
    "classification": "AutoModelForSequenceClassification",
    "tokens": "AutoModelForTokenClassification",
    ANSWERS: "AutoModelForQuestionAnswering",
    "embedding": "AutoModel",
    "ranking": "AutoModelForSequenceClassification",
    CAUSAL: "AutoModelForCausalLM",
}
"""By what `arguments.task` says."""

NAMED = ("classification", "tokens")
"""Tasks whose classes a configuration names."""

DTYPES = ("float32", "bfloat16", "float16", "auto")

TYPES = "token_type_ids"

CANDIDATES = "candidate_ids"

UNNAMED = re.compile(r"LABEL_\d+")
"""What transformers calls classes that nobody has named."""


def hugging_face_factory(name: str, *, has_weights: bool) -> Callable[..., object]:
    """Makes the model of a folder or a name. With `has_weights` its weights come from elsewhere, and none that are
    random are told of. Raises ModelError where transformers is missing."""
    _library(name)
    return partial(make_hugging_face_model, name, not has_weights)


def make_hugging_face_model(
    name: str,
    is_told: bool,
    /,
    *,
    task: str = "classification",
    dtype: str = "float32",
    random: bool = False,
    vocab_size: int | None = None,
    max_length: int | None = None,
    max_words: int | None = None,
    pooling: str | None = None,
    normalize: bool | None = None,
    scale: float = 1.0,
    head_dtype: str = "float32",
    lora: Mapping[str, object] | None = None,
    tensor_parallel: int = 1,
    **arguments: object,
) -> nn.Module:
    """In training mode. With the task `embedding` it gives one vector a text too, by `pooling` and `normalize`;
    default: as sentence-transformers' files beside it say; `scale` is what its dot products with candidates are
    multiplied by. With `ranking` it gives one score a pair. With `causal` it gives the logits of each token, not yet
    computed: see `CausalReader`, which `head_dtype` is for. `lora` puts adapters into it, which learn alone. With
    `tensor_parallel` the processes of a group of so many, which have met before, hold a part of each layer.

    `random` gives it random weights, as a folder without weights does; further arguments change its configuration, such
    as `num_labels`. Its input tells how many tokens there are, how long texts may be, and among how many words answers
    are sought: with random weights it gets as many tokens. Warns with RandomWeights where `is_told`. Raises ValueError
    for an argument that it doesn't know, and an input that it can't take; and whatever transformers raises."""
    choices = {"task": (task, TASKS), "dtype": (dtype, DTYPES), "head_dtype": (head_dtype, HEAD_DTYPES)}
    for option, (value, known) in choices.items():
        if value not in known:
            raise ValueError(f"{option} = {value!r} is unknown. {suggest(str(value), known)}")
    if (task == ANSWERS) != bool(max_words) and max_words is not None:
        raise ValueError(
            f"input.max_words = {max_words}, and arguments.task = {task!r}: answers are sought with "
            f"`arguments.task = {ANSWERS!r}` and among a number of words, as in `input.max_words = 384`"
        )
    is_random = random or _has_no_weights(name)
    if is_random and tensor_parallel > 1:
        raise ValueError("tensor_parallel: it has no weights that processes could share. Leave it out")
    transformers = _library(name)
    kind, whole = getattr(transformers, TASKS[task]), {"trust_remote_code": False, **arguments}
    with _quiet(transformers), _in_a_line():
        if is_random:
            sized = {} if vocab_size is None else {"vocab_size": vocab_size}
            config = transformers.AutoConfig.from_pretrained(name, **sized | whole)
            as_dtype = {} if dtype == "auto" else {"dtype": getattr(torch, dtype)}
            model: nn.Module = kind.from_config(config, trust_remote_code=False, **as_dtype)
            note = f"hf:{name}: has the weights of its configuration alone, so they are random"
        else:
            shared = {} if tensor_parallel == 1 else _shared_by(transformers, tensor_parallel)
            model, found = kind.from_pretrained(name, dtype=dtype, output_loading_info=True, **shared, **whole)
            note = _note_of_missing(name, found)
    if tensor_parallel > 1:
        remember_fingerprint(model, whole_fingerprint(model))
    _check_input(model, vocab_size=vocab_size, max_length=max_length)
    if note and is_told and is_first_rank():
        warnings.warn(note, RandomWeights, stacklevel=4)
    if TYPES not in inspect.signature(model.forward).parameters:
        model.register_forward_pre_hook(_without_types, with_kwargs=True)
    if task == "embedding":
        read = partial(_beside, transformers, name)
        give_sentence_embeddings(model, pooling_for(read, pooling=pooling, normalize=normalize, scale=scale))
    elif (pooling, normalize, scale) != (None, None, 1.0):
        raise ValueError(f"pooling, normalize and scale are of the task embedding, and this is {task}. Leave them out")
    if task != "embedding":
        model.register_forward_pre_hook(_refuse_candidates, with_kwargs=True)
    if task == "ranking":
        give_scores(model)
    if lora is not None:
        add_adapters(model, lora)
    if task == CAUSAL:
        give_lazy_logits(model, name=f"hf:{name}", num_classes=vocab_size, head_dtype=head_dtype)
    return (WordReader(model) if task == ANSWERS else model).train()


def _shared_by(transformers: Any, size: int) -> dict[str, Any]:
    """Arguments with which each process of a group has a part of every layer."""
    return {"distributed_config": transformers.distributed.DistributedConfig(tp_size=size, tp_plan="auto")}


def configured_class_names(name: str, arguments: Mapping[str, object]) -> tuple[str, ...] | None:
    """What the classes are called in the model's configuration; None where nobody has named them, or the arguments
    ask for other ones."""
    labels = _configuration(name).get("id2label")
    if not isinstance(labels, Mapping) or arguments.get("task", "classification") not in NAMED:
        return None
    names = tuple(str(labels[key]) for key in sorted(labels, key=int))
    is_changed = arguments.get("num_labels", len(names)) != len(names) or "id2label" in arguments
    is_named = not all(UNNAMED.fullmatch(each) for each in names) and len(set(names)) == len(names)
    return names if is_named and not is_changed else None


def _configuration(name: str) -> dict[str, Any]:
    folder = Path(name)
    if not folder.is_dir():
        found: dict[str, Any] = _library(name).AutoConfig.from_pretrained(name, trust_remote_code=False).to_dict()
        return found
    try:
        said = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError) as error:
        raise ModelError(
            f"hf:{name}: its config.json can't be read ({error}). Expected a folder that save_pretrained wrote."
        ) from error
    return said if isinstance(said, dict) else {}


def _beside(transformers: Any, name: str, file: str) -> Any:
    """What a JSON file of a folder, or of a model on the hub, holds; None where there is none."""
    path = transformers.utils.cached_file(name, file, _raise_exceptions_for_missing_entries=False)
    return None if path is None else json.loads(Path(path).read_bytes())


def _has_no_weights(name: str) -> bool:
    """A folder with a configuration alone."""
    folder = Path(name)
    return folder.is_dir() and not any(any(folder.glob(f"*.{end}")) for end in ("safetensors", "bin"))


def _note_of_missing(name: str, found: Mapping[str, Any]) -> str:
    """Parts that the file lacks, as an encoder lacks a head; empty where it has all."""
    mismatched = (each[0] if isinstance(each, tuple) else each for each in found.get("mismatched_keys", ()))
    missing = sorted({*found.get("missing_keys", ()), *mismatched})
    if not missing:
        return ""
    return f"hf:{name}: {len(missing):,} of its weights are random, as no file has them ({first_few(missing)})"


def _check_input(model: Any, *, vocab_size: int | None, max_length: int | None) -> None:
    """Raises ValueError for more tokens than the model knows, or longer texts than it can take."""
    known = model.config.get_text_config()
    tokens, positions = getattr(known, "vocab_size", None), getattr(known, "max_position_embeddings", None)
    if isinstance(tokens, int) and vocab_size is not None and vocab_size > tokens:
        raise ValueError(
            f"the tokenizer has {vocab_size:,} tokens, and the model knows {tokens:,}. Leave `input.tokenizer` out: "
            f"the model brings its own"
        )
    if isinstance(positions, int) and max_length is not None and 0 < positions < max_length:
        raise ValueError(
            f"texts have up to {max_length:,} tokens, and the model takes {positions:,}. Lower `input.max_length`"
        )


def _without_types(module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """A tokenizer may tell the texts of a pair apart where the model doesn't, as that of DistilBERT."""
    return given, {name: value for name, value in named.items() if name != TYPES}


def _refuse_candidates(module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
    """Most forwards take arguments of any name, and leave alone what they don't know."""
    if CANDIDATES in named:
        raise ValueError(
            "it gives no vectors, so that candidates can't be scored apart from their query. Say "
            "`input.pair_candidates = true` with `arguments.task = 'ranking'`, or `arguments.task = 'embedding'`"
        )


@contextmanager
def _in_a_line() -> Iterator[None]:
    """What isn't found is told on several lines, with advice on other things."""
    try:
        yield
    except OSError as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise ValueError(f"{reason}. Check the folder, or the name on the hub, behind `hf:`") from error


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Its bars and its table of random weights are left out: there is a note of our own."""
    logging = transformers.utils.logging
    level, has_bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if has_bar:
            logging.enable_progress_bar()


def _library(name: str) -> Any:
    try:
        import transformers
    except ImportError as error:
        raise ModelError(f"hf:{name}: transformers isn't installed. Install it: pip install 'softlab[text]'") from error
    return transformers

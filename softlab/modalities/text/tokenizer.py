"""Tokenizers: read or trained, told apart by what they do, and applied to one text at a time."""

import base64
import functools
import json
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softlab.errors import InvalidOption, StoreMismatch, extra_needed
from softlab.identity import digest_of
from softlab.modalities.text.inputs import TRAIN, TextInput

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

PAD, UNKNOWN, FIRST, LAST = "[PAD]", "[UNK]", "[CLS]", "[SEP]"
"""Special tokens of a trained tokenizer, with the ids 0 to 3."""

USUAL_PADS = (PAD, "<pad>")
"""Looked for in a tokenizer.json that says nothing of padding."""

LETTERS = 1000
"""Different ones that a trained tokenizer knows at most, the most frequent: a text in Chinese would fill it."""

DEFAULT_LENGTH = 512
"""Where neither the options nor the tokenizer say it."""

NO_LENGTH = 1_000_000
"""A tokenizer whose models take texts of any length says a number beyond it."""

MAX_BYTES = 1 << 27
"""Of a trained tokenizer, unpacked."""

PROBES = (("The 3 naïve cats' café:\tЩи 中文 🙂 unbelievable!",), ("One text", "and another."))
"""What identity encodes: so a change anywhere between text and ids is noticed."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TextTokenizer:
    """A tokenizer as one model's input wants it."""

    rust: "Tokenizer"
    """Of the `tokenizers` package; it cuts texts off, and fills nothing up."""

    pad_id: int
    vocab_size: int
    """One above the largest id."""

    max_length: int
    tells_texts_apart: bool
    """Whether the second text of a pair has another `token_type_ids`."""

    identity: str

    def encode(self, text: str, pair: str | None) -> "Encoding":
        """One by one: `encode_batch` would start threads, and processes that are forked later couldn't. Raises
        InvalidOption for a question that leaves no room for the text that is to answer it."""
        try:
            return self.rust.encode(text, pair)
        except Exception as error:  # the library raises plain Exception
            raise InvalidOption(
                f"the text {text[:40]!r} has too many tokens: only {self.max_length:,} are let in, and it leaves no "
                f"room for the second one. Raise `input.max_length`, or leave such samples out."
            ) from error

    def num_cut(self, found: "Encoding", text: str, pair: str | None) -> int:
        """How many tokens were cut off of a text or pair that was encoded to `found`."""
        if not found.overflowing:
            return 0
        if pair is not None:  # what is cut off of one text is told beside each part of the other
            return len(self.whole.encode(text, pair)) - len(found)
        num_special = self.rust.num_special_tokens_to_add(False)
        return sum(len(part) - num_special for part in found.overflowing)

    @functools.cached_property
    def whole(self) -> "Tokenizer":
        """The same, which cuts nothing off."""
        whole: Tokenizer = _library().Tokenizer.from_str(self.rust.to_str())
        whole.no_truncation()
        return whole


@functools.lru_cache(maxsize=32)
def tokenizer_for(options: TextInput) -> TextTokenizer:
    """The tokenizer of settled options; read once a process. Raises as `read_tokenizer`."""
    return read_tokenizer(options)


def read_tokenizer(options: TextInput, *, needs_pad: bool = True) -> TextTokenizer:
    """Raises InvalidOption for a tokenizer that isn't there, is a slow one, or has no pad token; StoreMismatch where it
    isn't the one that `options.identity` tells. Without `needs_pad` one that has none is filled up with its token 0."""
    rust, config = _find(options)
    rust.no_padding()
    rust.no_truncation()
    identity = identity_of(rust)
    if options.identity and identity != options.identity:
        raise StoreMismatch(
            f"tokenizer {options.tokenizer}: has changed ({identity[:12]}; what was recorded is "
            f"{options.identity[:12]}): its tokens, their ids, or how texts are cut into them. Get the former one "
            f"back, or make the store or the weights anew with this one."
        )
    known, told = int(config.get("model_max_length") or NO_LENGTH), config.get("model_input_names")
    max_length = options.max_length or (known if known < NO_LENGTH else DEFAULT_LENGTH)
    num_special = rust.num_special_tokens_to_add(bool(options.pair_field or options.pair_candidates))
    if max_length <= num_special:
        raise InvalidOption(
            f"input.max_length = {max_length}: {num_special} special tokens leave no room for a text. Raise "
            f"`input.max_length`."
        )
    pad_id = _pad_id(rust, config, options, needs_pad=needs_pad)
    has_types = any(rust.encode(*PROBES[1]).type_ids)
    strategy = "only_second" if options.max_words else "longest_first"  # a question is read whole
    rust.enable_truncation(max_length, strategy=strategy, direction=options.truncation)
    return TextTokenizer(
        rust=rust,
        pad_id=pad_id,
        vocab_size=max(rust.get_vocab(with_added_tokens=True).values()) + 1,
        max_length=max_length,
        tells_texts_apart=has_types and (told is None or "token_type_ids" in told),
        identity=identity,
    )


def identity_of(rust: "Tokenizer") -> str:
    """BLAKE3 of the table of ids and tokens, added ones included, of the settings that cut a text into them, and of
    the encoding of fixed texts. Not of the file: that changes with padding and with each version of the library."""
    said = json.loads(rust.to_str())
    merges = said["model"].get("merges") or []
    what = {
        "tokens": sorted((number, token) for token, number in rust.get_vocab(with_added_tokens=True).items()),
        "added": said["added_tokens"],
        "normalizer": said["normalizer"],
        "pre_tokenizer": said["pre_tokenizer"],
        "model": said["model"]["type"],
        "merges": [pair.split(" ") if isinstance(pair, str) else pair for pair in merges],
        "probes": [[found.ids, found.type_ids] for found in (rust.encode(*probe) for probe in PROBES)],
    }
    return digest_of(json.dumps(what, sort_keys=True, separators=(",", ":")).encode())


def train_tokenizer(texts: Iterable[str], *, vocab_size: int) -> str:
    """A tokenizer of word pieces (byte-pair encoding, Sennrich et al. 2016), without case and accents, as
    `TextInput.trained` keeps it. The same texts give the same one on any machine."""
    tokenizers = _library()
    rust = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token=UNKNOWN))
    rust.normalizer = tokenizers.normalizers.BertNormalizer()
    parts = [tokenizers.pre_tokenizers.BertPreTokenizer(), tokenizers.pre_tokenizers.Metaspace()]
    rust.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(parts)
    # Trainers of WordPiece and Unigram give another tokenizer each time.
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, UNKNOWN, FIRST, LAST],
        limit_alphabet=min(LETTERS, vocab_size // 2),
        show_progress=False,
    )
    rust.train_from_iterator(texts, trainer)
    rust.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{FIRST} $A {LAST}",
        pair=f"{FIRST} $A {LAST} $B:1 {LAST}:1",
        special_tokens=[(FIRST, rust.token_to_id(FIRST)), (LAST, rust.token_to_id(LAST))],
    )
    return base64.b85encode(zlib.compress(rust.to_str().encode(), 9)).decode()


def _find(options: TextInput) -> tuple["Tokenizer", dict[str, Any]]:
    """The tokenizer, and what stands in the tokenizer_config.json beside it."""
    name = options.tokenizer
    if options.trained:
        return _parse(_unpacked(options.trained), where=name), {}
    if not name:
        raise InvalidOption("`input.tokenizer` is missing. Name a folder, a tokenizer.json, or say train:VOCAB_SIZE.")
    if name.startswith(TRAIN):
        raise InvalidOption(
            f"input.tokenizer = {name}: is trained where a model is trained, and there is none here. Give weights that "
            f"bring theirs, or name a folder or a tokenizer.json."
        )
    path = Path(name)
    if path.is_dir():
        path /= "tokenizer.json"
        if not path.is_file():
            raise InvalidOption(
                f"{name}: has no tokenizer.json, as a fast tokenizer has. Convert it once: "
                f"transformers.AutoTokenizer.from_pretrained({name!r}).save_pretrained({name!r})."
            )
    if path.is_file():
        return _parse(path.read_bytes(), where=str(path)), _config_beside(path)
    return _from_hub(name)


def _parse(data: bytes, *, where: str) -> "Tokenizer":
    tokenizers = _library()
    try:
        rust: Tokenizer = tokenizers.Tokenizer.from_str(data.decode())
    except Exception as error:  # the library raises plain Exception
        reason = str(error).partition("\n")[0]
        raise InvalidOption(
            f"{where}: can't be read as a tokenizer ({reason}). Expected what save_pretrained of a fast tokenizer "
            f"writes; get it again."
        ) from error
    return rust


def _config_beside(path: Path) -> dict[str, Any]:
    """Empty where there is none. Of a sentence encoder the length that it was made for counts, not its model's."""
    config, sentence = (_json_beside(path, name) for name in ("tokenizer_config.json", "sentence_bert_config.json"))
    length = sentence.get("max_seq_length")
    return config | {"model_max_length": length} if isinstance(length, int) else config


def _json_beside(path: Path, name: str) -> dict[str, Any]:
    try:
        config = json.loads((path.parent / name).read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise InvalidOption(f"{path.parent}: its {name} is damaged ({error}). Get it again.") from error
    return config if isinstance(config, dict) else {}


def chat_writer_of(name: str) -> Any:
    """The tokenizer of a folder or a name on the hub as transformers reads it, which writes chats. Raises InvalidOption
    for one that has no chat template."""
    with extra_needed("text", "chat templates need transformers"):
        from transformers import AutoTokenizer
    try:
        found = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        found.get_chat_template()
    except Exception as error:  # whatever the hub, the network or a file answers
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise InvalidOption(
            f"tokenizer {name}: writes no chats ({reason}). Name one with a chat template, or write the chats out as "
            f"documents."
        ) from error
    return found


def _from_hub(name: str) -> tuple["Tokenizer", dict[str, Any]]:
    missing = f"tokenizer {name!r}: there is no such folder or file"
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise InvalidOption(f"{missing}, and names on the hub need: pip install 'softlab[text]'") from error
    try:
        found = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # whatever the hub, the network or a file answers
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise InvalidOption(f"{missing}, and from the hub: {reason}. Check `input.tokenizer`.") from error
    if not found.is_fast:
        raise InvalidOption(f"tokenizer {name!r}: is a slow one. Choose one with a tokenizer.json.")
    config = {"pad_token": found.pad_token, "model_max_length": found.model_max_length}
    return _parse(found.backend_tokenizer.to_str().encode(), where=name), config | {
        "model_input_names": found.model_input_names
    }


def _pad_id(rust: "Tokenizer", config: dict[str, Any], options: TextInput, *, needs_pad: bool) -> int:
    told = config.get("pad_token")
    told = told.get("content") if isinstance(told, dict) else told
    wanted: Sequence[str] = [options.pad_token] if options.pad_token else [told] if told else USUAL_PADS
    found = [number for token in wanted if (number := rust.token_to_id(token)) is not None]
    if not found and not needs_pad:
        return 0
    if not found:
        lacks = f"no token {options.pad_token!r}" if options.pad_token else "no pad token"
        raise InvalidOption(
            f"tokenizer {options.tokenizer}: has {lacks}, so that texts of different length can't share a batch. Name "
            f"one of its tokens as `input.pad_token`, for example its end of text."
        )
    return found[0]


def _unpacked(trained: str) -> bytes:
    try:
        return zlib.decompressobj().decompress(base64.b85decode(trained), MAX_BYTES)
    except (ValueError, zlib.error) as error:
        raise InvalidOption(f"input.trained: is damaged ({error}). Get the weights back from a copy.") from error


def _library() -> Any:
    with extra_needed("text", "texts need tokenizers"):
        import tokenizers
        import tokenizers.models
        import tokenizers.normalizers
        import tokenizers.pre_tokenizers
        import tokenizers.processors
        import tokenizers.trainers
    return tokenizers

"""In what two plans or two runs differ, told in the words of the options that decide it."""

import re
from collections.abc import Collection, Sequence
from typing import Any, TypeGuard

HASH = re.compile("[0-9a-f]{64}")
MOST_TOLD, MAX_VALUE_LENGTH = 3, 60
"""Differences in one message, and characters of one value in it."""

OUTPUT = r"outputs\.[A-Za-z0-9_-]+\."

IN_WORDS = {
    r"teacher\.model": "`teacher.model`",
    r"teacher\.weights_fingerprint": "the hash of the weights (`teacher.weights`)",
    r"teacher\.imported\.file": "the hash of the predictions (`predictions.path`)",
    r"teacher\.imported\.(.*)": r"`predictions.\1`",
    r"teacher\.arguments\.(.*)": r"`teacher.arguments.\1`",
    r"source\.name": "the data set (`source.path`)",
    r"source\.num_samples": "the number of samples",
    r"source\.keys_fingerprint": "the hash of the samples' keys (`source.path`)",
    r"source\.skipped": "the list of samples left out (`source.skip_unreadable`)",
    r"inputs\.\d+\.options\.(.*)": r"`input.\1`",
    r"inputs\.\d+\.decode\.(.*)": r"`input.\1`",
    r"stores": "the list of stores",
    r"outputs": "the list of outputs",
    OUTPUT + r"head": "`dump.head`",
    OUTPUT + r"selection\.method": "`dump.selection`",
    OUTPUT + r"selection\.k": "`dump.k`",
    OUTPUT + r"selection\.resolution": "`dump.resolution`",
    OUTPUT + r"selection\.temperatures": "`dump.temperature`",
    OUTPUT + r"coding\.logits": "`dump.coding`",
    OUTPUT + r"coding\.gap_step": "`dump.gap_step`",
    OUTPUT + r"coding": "`dump.values_coding`",
    OUTPUT + r"valid": "`dump.valid`",
    OUTPUT + r"taken_from": "where an output is taken from (`dump.output`, `dump.feature`)",
    r"teacher\.precision": "the precision (`device.autocast`)",
    r"views\.num_views": "`dump.views`",
    r"views\.digest_every": "`dump.pixel_digests`, one in so many,",
    r"views\.seed": "`augment.seed`",
    r"views\.transforms(.*)": r"`augment.transforms`\1",
    r"views\.mixing(.*)": r"how views are mixed (`augment`)\1",
    r"storage\.format": "`dump.format`",
    r"storage\.shard_rows": "`dump.shard_rows`",
    OUTPUT + r"label_space\.num_classes": "the number of classes",
    OUTPUT + r"label_space\.class_names": "the list of classes",
    r"students\.([^. ]+)\.objective\.heads\.([^. ]+)\.teachers\.alpha": r"`student.\1.head.\2.alpha`",
    r"students\.([^. ]+)\.objective\.heads\.([^. ]+)\.(.*)": r"`student.\1.head.\2.\3`",
    r"students\.([^. ]+)\.objective\.weights\.([^. ]+)": r"`student.\1.head.\2.weight`",
    r"students\.([^. ]+)\.objective\.loss\.(.*)": r"`student.\1.loss.\2`",
    r"students\.([^. ]+)\.objective\.(.*)": r"`student.\1.\2`",
    r"students\.([^. ]+)\.(optimizer|input|device|prune)\.(.*)": r"`student.\1.\2.\3`",
    r"students\.([^. ]+)\.(seed|loss)": r"`student.\1.\2`",
    r"students\.([^. ]+)\.module": r"the model of the student \1",
    r"students\.([^. ]+)": r"the student \1",
    r"(run|distil)\.(.*)": r"`\1.\2`",
    r"(?:libraries|versions)\.(.*)": r"the version of \1",
    r"softlab_version": "the version of softlab",
    r"parent": "the store that it was made from",
}
"""What a user knows, by where it stands in a plan or a run's record. The first ones matter most, and may be what the
others follow from."""

FOLLOWS = re.compile(r"fingerprint|initial_weights|num_parameters|^storage\.(fields|shard_units)|^format_version")
"""What only tells that something else differs."""


def differences(found: dict[str, Any], expected: dict[str, Any], *, prefix: str = "") -> list[str]:
    """`key was found, is now expected` for each leaf in which two trees of plain values differ. Lists of tables with
    other names, or in another order, differ as lists of names."""
    lines = []
    for key in sorted(found.keys() | expected.keys()):
        ours, theirs = expected.get(key), found.get(key)
        if isinstance(ours, dict) and isinstance(theirs, dict):
            lines += differences(theirs, ours, prefix=f"{prefix}{key}.")
        elif _are_tables(ours) and _are_tables(theirs) and _names(ours) == _names(theirs):
            for name, our, their in zip(_names(ours), ours, theirs, strict=True):
                lines += differences(their, our, prefix=f"{prefix}{key}.{name}.")
        elif _are_tables(ours) and _are_tables(theirs):
            lines.append(f"{prefix}{key} was {_short(_names(theirs))}, is now {_short(_names(ours))}")
        elif isinstance(ours, dict) and key not in found:
            lines.append(f"{prefix}{key} is new")
        elif isinstance(theirs, dict) and key not in expected:
            lines.append(f"{prefix}{key} is no longer there")
        elif ours != theirs:
            lines.append(f"{prefix}{key} was {_short(theirs)}, is now {_short(ours)}")
    return lines


def tell_differences(lines: Sequence[str]) -> str:
    """Those of `differences` as the middle of a message that is read to its end: the three that matter most, in the
    words of the options that decide them, and how many more there are. What only follows from others is not told
    beside them."""
    keys = {_key_of(line) for line in lines}
    causes = [line for line in lines if not _only_follows(_key_of(line), keys)]
    told = sorted(causes or lines, key=lambda line: _rank(_key_of(line)))[:MOST_TOLD]
    more = len(lines) - len(told)
    return "; ".join(dict.fromkeys(map(_in_words, told))) + (f"; and {more:,} more" if more > 0 else "")


def _key_of(line: str) -> str:
    return line.partition(" ")[0]


def _only_follows(key: str, keys: Collection[str]) -> bool:
    if key == "teacher.weights_fingerprint":
        return "teacher.imported.file" in keys
    return FOLLOWS.search(key) is not None


def _rank(key: str) -> tuple[int, int]:
    place = next((place for place, known in enumerate(IN_WORDS) if re.fullmatch(known, key)), len(IN_WORDS))
    return place, key.count(".")


def _in_words(line: str) -> str:
    key, space, rest = line.partition(" ")
    words = next((match.expand(text) for known, text in IN_WORDS.items() if (match := re.fullmatch(known, key))), key)
    return words + space + rest


def _short(value: Any) -> str:
    text = repr(value)
    if isinstance(value, str) and HASH.fullmatch(value):
        return f"{value[:12]}.."
    return text if len(text) <= MAX_VALUE_LENGTH else f"{text[: MAX_VALUE_LENGTH - 2]}.."


def _are_tables(value: Any) -> TypeGuard[list[dict[str, Any]]]:
    return isinstance(value, list) and all(isinstance(each, dict) for each in value)


def _names(tables: list[dict[str, Any]]) -> list[Any]:
    return [table.get("name", table.get("key", number)) for number, table in enumerate(tables)]

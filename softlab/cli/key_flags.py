"""Any option as a flag, under its key: `--source-class-names cat` is `--set source.class_names=["cat"]`.

The flags of a command are those that its `--help` shows. This is for the others: whoever knows an option's key can type
it as a flag.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any, get_args, get_origin

from softlab.recipes.options import ANY_NAME, OptionField, head_field, named_section, option_fields
from softlab.recipes.toml import parse_value

SHORT_FLAGS = {
    "distil.keep": "--keep",
    "dump.tensor_parallel": "--tensor-parallel",
    "run.views_per_image": "--views-per-image",
}
"""Flags beside those of the keys, for options that are typed often."""


def flags_of_keys(kind: type[Any]) -> dict[str, OptionField]:
    """The options of a recipe by such a flag."""
    options = [option for option in option_fields(kind) if ANY_NAME not in option.key]
    short = {SHORT_FLAGS[option.key]: option for option in options if option.key in SHORT_FLAGS}
    return {flag_of(option.key): option for option in options} | short


def flag_of(key: str) -> str:
    """`--source-class-names` of source.class_names."""
    return "--" + key.replace(".", "-").replace("_", "-")


def as_assignments(arguments: Sequence[str], kind: type[Any], *, shown: Sequence[str]) -> list[str]:
    """The same arguments of a command, in which a flag that isn't among its own, but names an option, is `--set`.

    What is set with `--set` itself still counts more. One without a value stays as it is, for the parser to refuse.
    """
    flags = {flag: option for flag, option in flags_of_keys(kind).items() if flag not in shown}
    kept: list[str] = []
    given: dict[str, list[str]] = {}
    left = iter(arguments)
    for argument in left:
        flag, equals, value = argument.partition("=")
        option = flags.get(flag.replace("--no-", "--", 1) if flag.startswith("--no-") else flag)
        if option is None or (flag.startswith("--no-") and option.type is not bool):
            kept.append(argument)
        elif option.type is bool:
            given[option.key] = ["false" if flag.startswith("--no-") else "true"]
        elif (text := value if equals else next(left, None)) is not None:
            given.setdefault(option.key, []).append(text)
        else:
            kept.append(argument)
    options = {option.key: option for option in flags.values()}
    sets = [text for key, texts in given.items() for text in _assignments(options[key], texts)]
    return [each for text in sets for each in ("--set", text)] + kept


def _assignments(option: OptionField, texts: Sequence[str]) -> Iterator[str]:
    """Of an option that was given once or several times."""
    if get_origin(option.type) is dict:
        yield from (_entry(option, text) for text in texts)
    elif get_origin(option.type) is tuple:
        yield f"{option.key}={json.dumps([_value(option, text) for text in texts])}"
    else:
        yield f"{option.key}={texts[-1]}"


def _value(option: OptionField, text: str) -> Any:
    item = get_args(option.type)[0]
    return text if item is str else parse_value(text)


def _entry(option: OptionField, text: str) -> str:
    """`NAME=VALUE` of a table; of a table of named sections what each is mostly about."""
    name, _, value = text.partition("=")
    section = named_section(option.type)
    key = f"{option.key}.{json.dumps(name)}"
    return f"{key}.{head_field(section)}={value}" if section else f"{key}={value}"

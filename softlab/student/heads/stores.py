"""Which store, and which of its outputs, a head learns from."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from softlab.errors import InvalidOption, StoreMismatch, suggest
from softlab.store.mapped import MappedStore
from softlab.store.reader import Store
from softlab.student.heads.options import HeadOptions


def choose_store(head: str, options: HeadOptions, stores: Sequence[Store], *, gives_values: bool) -> Store:
    """The store of a head, with the soft labels of its output. Raises InvalidOption where none or several hold that,
    StoreMismatch for an output that a head can't learn."""
    named = [store for store in stores if options.store is None or _is_named(store, options.store)]
    names = " and ".join(store.name for store in stores)
    if not named:
        raise InvalidOption(
            f"head {head}: none of the stores ({names}) is {options.store}. Say `head.{head}.store` as `store` has it, "
            f"or the last part of its path."
        )
    holders = [store for store in named if output_of(head, options, store) in _names(store)]
    wanted = output_of(head, options, named[0])
    if not holders:
        held = "; ".join(f"{store.name} holds {', '.join(_names(store))}" for store in named)
        known = [name for store in named for name in _names(store)]
        raise InvalidOption(
            f"head {head}: there is no stored output {wanted!r} ({held}). {suggest(wanted, known)} Say which one it "
            f"learns, as `head.{head}.output = {known[0]}`, or dump it with `dump.output = {wanted}`."
        )
    if len(holders) > 1:
        raise InvalidOption(
            f"head {head}: {' and '.join(store.name for store in holders)} each hold an output {wanted!r}. Say which "
            f"one it learns, as `head.{head}.store = {holders[0].name}`."
        )
    return _with_output(head, wanted, holders[0], gives_values=gives_values)


def output_of(head: str, options: HeadOptions, store: Store) -> str:
    """The name of the stored output."""
    if options.output is not None:
        return options.output
    held = _names(store)
    return held[0] if options.store is not None and len(held) == 1 else head


def check_all_taught(stores: Sequence[Store], chosen: Mapping[str, Store]) -> None:
    """Raises InvalidOption for a store that no head learns from."""
    for store in stores:
        if store.digest not in {each.digest for each in chosen.values()}:
            raise InvalidOption(
                f"{store.name}: no head learns one of its outputs ({', '.join(_names(store))}). Give it one, as "
                f"`head.NAME.output = {_names(store)[0]}` and `head.NAME.store = {store.name}`, or leave the store out."
            )


def _with_output(head: str, output: str, store: Store, *, gives_values: bool) -> Store:
    if isinstance(store, MappedStore):
        raise InvalidOption(f"head {head}: [classes] is for students with one output. Leave it out.")
    try:
        chosen = store if gives_values else store.with_labels(output)
    except InvalidOption as error:
        raise InvalidOption(f"head {head}: {error}") from error
    record = next(each for each in chosen.manifest.outputs if each.name == output)
    if record.units:
        raise StoreMismatch(
            f"head {head}: {store.name}: its output {output} has a row for each unit of a sample, and a head learns "
            f"one row a sample. Train it as the only output of a student, or dump one row a sample."
        )
    return chosen


def _is_named(store: Store, text: str) -> bool:
    name = store.name.rstrip("/")
    return text.rstrip("/") in (name, name.rpartition("/")[2]) or Path(text) == Path(name)


def _names(store: Store) -> list[str]:
    return [output.name for output in store.manifest.outputs]

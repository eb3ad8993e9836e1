"""Which of a source's hard targets a head learns."""

from softlab.errors import InvalidOption, suggest
from softlab.sources.source import Source
from softlab.student.heads.options import HeadOptions


def choose_target(head: str, options: HeadOptions, source: Source) -> str | None:
    """Their name; None where the source has none of the head's name and none is asked for. Raises InvalidOption for a
    name that it hasn't."""
    named = options.target
    if named is None:
        return head if head in source.targets else None
    if named not in source.targets:
        raise InvalidOption(f"head {head}: target = {named}: {_found(source)}. {suggest(named, source.targets)}")
    return named


def no_target(head: str, source: Source, *, student: str) -> InvalidOption:
    """The error for a head that is to learn hard targets which aren't there."""
    return InvalidOption(
        f"student {student}: head {head}: alpha below 1 adds hard targets, and {_found(source)}. Name those of this "
        f"head as `head.{head}.target` (columns of a table: `source.label_columns`), or say `head.{head}.alpha = 1`."
    )


def _found(source: Source) -> str:
    return f"{source.name} has the hard targets {', '.join(source.targets) or 'none'}"

"""What students are measured on while they train."""

from dataclasses import dataclass

from softlab.sources.source import Source
from softlab.store.reader import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class Validation:
    """What students are measured on after every epoch."""

    source: Source
    store: Store | None = None
    """What the teacher said about it; without it only accuracy is measured."""

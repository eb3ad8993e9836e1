"""What is right where a model answers with a stretch of a text: the modality finds it, metrics count it."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class AnsweredText:
    """A text, what its classes are of it, and what would be right."""

    text: str
    spans: tuple[tuple[int, int], ...]
    """The characters of each class but the first one, which is "no answer"; each from its first up to its last one,
    which it doesn't have."""

    right: tuple[str, ...] | None
    """All right answers, empty where the text holds none; None where nothing is known."""

    def between(self, first: int, last: int) -> str:
        """From one class to another one; empty for no answer, and for classes that the text lacks."""
        if not 0 < first <= last <= len(self.spans):
            return ""
        return self.text[self.spans[first - 1][0] : self.spans[last - 1][1]]

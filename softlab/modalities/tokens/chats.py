"""Chats: the turns of a field, written out by a tokenizer's own template, and where in that the assistant speaks.

Most templates don't say which characters are the assistant's. So the chat is written turn by turn: what an assistant's
turn adds, behind what asks for its answer, is its completion. A template that writes the beginning of a chat in another
way once more turns follow is refused, as one that leaves out earlier thoughts.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from softlab.errors import InvalidOption
from softlab.sources.source import Raw

ASSISTANT = "assistant"

Turn = dict[str, Any]

WriteChat = Callable[[Sequence[Turn], bool], str]
"""From turns, and whether the answer of the assistant is asked for behind them, to a text."""


@dataclass(frozen=True, slots=True)
class WrittenText:
    """A document or a chat, as it is cut into tokens."""

    text: str
    learnt: tuple[tuple[int, int], ...]
    """Where in it, in characters, each part that is learnt begins, and behind it."""


def parse_chat(raw: Raw, *, has_answers: bool) -> str:
    """The turns as JSON, without what is null in them. Raises ValueError for what is no chat, and with `has_answers`
    for one without an assistant's turn."""
    if not isinstance(raw, str | bytes):
        raise ValueError("its messages are no list of turns, nor its JSON text")
    try:
        turns = json.loads(raw)
    except ValueError as error:
        raise ValueError(f"its messages are no JSON ({error})") from error
    if not isinstance(turns, list) or not turns:
        raise ValueError("its messages are no list of turns, or an empty one")
    for number, turn in enumerate(turns, start=1):
        if not isinstance(turn, dict) or not isinstance(turn.get("role"), str):
            raise ValueError(f"turn {number} of its messages has no role, expected {{role, content}}")
    if has_answers and not any(turn["role"] == ASSISTANT for turn in turns):
        raise ValueError(f"none of its {len(turns)} turns is the assistant's, so that no token is learnt")
    kept = [{name: value for name, value in turn.items() if value is not None} for turn in turns]
    return json.dumps(kept, ensure_ascii=False)


def write_chat(chat: str, write: WriteChat, *, learns_all: bool) -> WrittenText:
    """What `parse_chat` gave, written by a template. Raises InvalidOption where it doesn't tell the assistant's turns
    apart."""
    turns: list[Turn] = json.loads(chat)
    text = write(turns, False)
    if learns_all:
        return WrittenText(text, ((0, len(text)),))
    answers = [number for number, turn in enumerate(turns) if turn["role"] == ASSISTANT]
    return WrittenText(text, tuple(_extent(text, turns, number, write) for number in answers))


def _extent(text: str, turns: Sequence[Turn], number: int, write: WriteChat) -> tuple[int, int]:
    before, behind = write(turns[:number], True), write(turns[: number + 1], False)
    if not (behind.startswith(before) and text.startswith(behind)):
        raise InvalidOption(
            f"the chat {text[:40]!r}: the template writes turn {number + 1}, or what is before it, in another way once "
            f"more follows, so that the assistant's tokens can't be told apart. Learn all tokens (`input.loss_on = "
            f"all`), or give each answer a sample of its own, with `input.prompt_field`."
        )
    return len(before), len(behind)

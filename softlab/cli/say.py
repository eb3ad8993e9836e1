"""Lines for a terminal. Stores, cards and catalogues of others may hold signs that a terminal obeys, and line ends with
which they could speak in softlab's name."""

import typer

from softlab.errors import printable


def say(line: str) -> None:
    """One line of the output."""
    print(printable(line), flush=True)  # before the first bar


def say_beside(text: str) -> None:
    """What isn't the output: an error, a note. Lines after the first are indented, so that none passes for another."""
    first, *others = text.split("\n")
    typer.echo("\n".join([printable(first), *(f"  {printable(line)}" for line in others)]), err=True)

"""Results as a table of plain text."""

from collections.abc import Sequence


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, title: str) -> None:
    """The first column to the left, figures to the right."""
    lines = [headers, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    print(title)
    for first, *figures in lines:
        cells = [f"{text:>{width}}" for text, width in zip(figures, widths[1:], strict=True)]
        print(" ".join([f"{first:<{widths[0]}}", *cells]).rstrip())

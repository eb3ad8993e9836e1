"""Tables and figures as a person reads them."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from softlab.cli.say import say
from softlab.errors import printable


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, title: str | None = None) -> None:
    """The first column to the left, figures to the right."""
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0), header_style="bold underline")
    for index, header in enumerate(headers):
        table.add_column(header, justify="left" if index == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(Text("\n".join(map(printable, cell.split("\n")))) for cell in row))
    Console().print(table)


def print_columns(columns: Mapping[str, Sequence[str]], *, title: str = "") -> None:
    """A table from its columns. Those that the terminal has no room for go into further tables below it, each with the
    first column again."""
    first, *others = columns.items()
    tables = [[first]]
    for column in others:
        if sum(map(_width, [*tables[-1], column])) > Console().width and len(tables[-1]) > 1:
            tables.append([first])
        tables[-1].append(column)
    for number, table in enumerate(tables):
        rows = list(zip(*(cells for _, cells in table), strict=True))
        print_table([head for head, _ in table], rows, title=title if number == 0 else "")


def _width(column: tuple[str, Sequence[str]]) -> int:
    """Of the widest line, and the space after it."""
    head, cells = column
    return 1 + max(len(line) for text in (head, *cells) for line in text.split("\n"))


def print_facts(facts: Mapping[str, str]) -> None:
    """One fact a line, values under each other."""
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        say(f"{name:<{width}}  {value}")


def fit_as_table(rows: Sequence[Mapping[str, str]]) -> bool:
    """Whether the terminal has room for them side by side."""
    widths = [max(len(name), *(len(row[name]) for row in rows)) + 1 for name in rows[0]] if rows else []
    return bool(rows) and sum(widths) <= Console().width


def format_share(share: float | None) -> str:
    """A percentage, or a dash where there is none."""
    return "-" if share is None else f"{share:.2%}"

"""`softlab catalog`: show what is published, and which of it is for one's own data."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import msgspec
import typer
from rich.console import Console

from softlab.amounts import format_bytes, format_count
from softlab.cli.flags import argument_first, recipe_command
from softlab.cli.progress import run_bar, scan_bar
from softlab.cli.tables import format_share, print_facts, print_table
from softlab.errors import InvalidOption
from softlab.manifest.versions import VersionRecord
from softlab.sharing.catalogue.catalog import Catalog, find_for, read_catalog
from softlab.sources.options import SourceOptions

URL_ARGUMENT = typer.Argument(help="Where stores are published: a URL, or a folder.", show_default=False)


@dataclass(frozen=True, kw_only=True)
class CatalogRecipe:
    """What is looked for."""

    flags: ClassVar[dict[str, str]] = {
        "url": "--url",
        "search": "--search",
        "source.path": "--source",
        "source.limit": "--limit",
        "contents": "--contents",
        "json": "--json",
    }
    """Of the command line, by key; all else is set with `--set`."""

    url: str
    """Where stores are published."""

    search: str | None = None
    """Only versions with these words in their name@version, data set, teacher, features, tags, licence or digest."""

    contents: bool = False
    """With a source: compare the contents of all samples too, not just their keys; every sample is read."""

    json: bool = False
    """Print JSON."""

    source: SourceOptions | None = None

    def __post_init__(self) -> None:
        if self.contents and self.source is None:
            raise InvalidOption("`contents` without a source to compare with. Give `source.path`, or leave it out.")


@argument_first("url", argument=URL_ARGUMENT)
@recipe_command(CatalogRecipe)
def catalog(recipe: CatalogRecipe) -> None:
    """Show what is published at a URL or in a folder; with --source only labels of these very samples."""
    catalog = read_catalog(recipe.url)
    found = list(catalog.versions) if recipe.search is None else catalog.search(recipe.search)
    if recipe.source is not None:
        fitting = _find(catalog, recipe.source, contents=recipe.contents)
        found = [each for each in found if each in fitting]
    if recipe.json:
        values = [msgspec.to_builtins(each) | {"tags": catalog.tags_of(each)} for each in found]
        print(msgspec.json.format(msgspec.json.encode({"root": catalog.root, "versions": values})).decode())
        return
    _show(catalog, found)


def _find(catalog: Catalog, options: SourceOptions, *, contents: bool) -> list[VersionRecord]:
    from softlab.modalities.opening import open_source  # data sets need more imports than the catalogue does

    with run_bar() as bar:
        return find_for(
            catalog,
            open_source(options, on_scan=scan_bar(bar)),
            contents=contents,
            on_sample=lambda done, total: bar(done, "reading samples", total, unit="samples"),
        )


def _show(catalog: Catalog, found: Sequence[VersionRecord]) -> None:
    rows = [_facts(catalog, each) for each in found]
    if _fit_as_table(rows):
        print_table(list(rows[0]), [list(row.values()) for row in rows])
    else:
        for row, record in zip(rows, found, strict=True):
            print_facts(row | {"terms": _printable(record.terms) or "-"})
            print()
    of = "" if len(found) == len(catalog.versions) else f"{len(found):,} of "
    written = "" if catalog.updated is None else f", as written at {catalog.updated}"
    print(f"{of}{format_count(len(catalog.versions), 'published version')} at {catalog.root}{written}")


def _fit_as_table(rows: Sequence[dict[str, str]]) -> bool:
    widths = [max(len(name), *(len(row[name]) for row in rows)) + 1 for name in rows[0]] if rows else []
    return bool(rows) and sum(widths) <= Console().width


def _facts(catalog: Catalog, record: VersionRecord) -> dict[str, str]:
    summary = record.summary
    facts = {
        "store": f"{record.name}@{record.version}",
        "tags": ", ".join(catalog.tags_of(record)) or "-",
        "data set": f"{summary.source} ({summary.num_samples:,})",
        "teacher": summary.teacher,
        "accuracy": format_share(summary.accuracy),
        "classes": f"{summary.num_classes:,}",
        "views": f"{summary.num_views:,}",
        "K": f"{summary.k:,}",
        "features": ", ".join(summary.features) or "-",
        "size": format_bytes(summary.num_bytes),
        "licence": record.licence,
        "published": record.published[:10],
        "digest": record.digest[:12],
    }
    return {name: _printable(value) for name, value in facts.items()}


def _printable(text: str) -> str:
    """What another team wrote may hold signs that a terminal obeys."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)

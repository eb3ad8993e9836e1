"""`softlab catalog`: show what is published, and which of it is for one's own data."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import msgspec
import typer

from softlab.amounts import format_bytes, format_count
from softlab.cli.flags import argument_first, recipe_command
from softlab.cli.progress import run_bar, scan_bar
from softlab.cli.say import say
from softlab.cli.tables import fit_as_table, format_share, print_facts, print_table
from softlab.errors import InvalidOption
from softlab.manifest.versions import VersionRecord
from softlab.sharing.catalogue.catalog import Catalog, find_for, read_catalog
from softlab.sharing.fetch.signers import claimed_signers
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
    signers = claimed_signers(catalog.root, found)
    if recipe.json:
        values = [
            msgspec.to_builtins(each) | {"tags": catalog.tags_of(each), "says_signed_by": signer}
            for each, signer in zip(found, signers, strict=True)
        ]
        print(msgspec.json.format(msgspec.json.encode({"root": catalog.root, "versions": values})).decode())
        return
    _show(catalog, found, signers)


def _find(catalog: Catalog, options: SourceOptions, *, contents: bool) -> list[VersionRecord]:
    from softlab.modalities.opening import open_source  # data sets need more imports than the catalogue does

    with run_bar() as bar:
        return find_for(
            catalog,
            open_source(options, on_scan=scan_bar(bar)),
            contents=contents,
            on_sample=lambda done, total: bar(done, "reading samples", total, unit="samples"),
        )


def _show(catalog: Catalog, found: Sequence[VersionRecord], signers: Sequence[str | None]) -> None:
    rows = [_facts(catalog, each, signer) for each, signer in zip(found, signers, strict=True)]
    if fit_as_table(rows):
        print_table(list(rows[0]), [list(row.values()) for row in rows])
    else:
        for row, record in zip(rows, found, strict=True):
            print_facts(row | {"terms": record.terms or "-"})
            print()
    of = "" if len(found) == len(catalog.versions) else f"{len(found):,} of "
    written = "" if catalog.updated is None else f", as written at {catalog.updated}"
    say(f"{of}{format_count(len(catalog.versions), 'published version')} at {catalog.root}{written}")


def _facts(catalog: Catalog, record: VersionRecord, signer: str | None) -> dict[str, str]:
    summary = record.summary
    return {
        "store": f"{record.name}@{record.version}",
        "tags": ", ".join(catalog.tags_of(record)) or "-",
        "data set": f"{summary.source} ({summary.num_samples:,})",
        "teacher": summary.teacher,
        "accuracy": format_share(summary.accuracy),
        "classes": "-" if summary.num_classes is None else f"{summary.num_classes:,}",
        "views": f"{summary.num_views:,}",
        "K": summary.kept_in_words,
        "features": ", ".join(summary.features) or "-",
        "size": format_bytes(summary.num_bytes),
        "signed": "no" if signer is None else signer,
        "licence": record.licence,
        "published": record.published[:10],
        "digest": record.digest[:12],
    }

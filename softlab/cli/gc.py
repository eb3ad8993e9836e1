"""`softlab gc`: remove what interrupted publications left behind."""

import re
from typing import Annotated

import msgspec
import typer

from softlab.amounts import format_bytes, format_count
from softlab.cli.progress import rows_bar
from softlab.cli.say import say
from softlab.cli.tables import print_table
from softlab.errors import InvalidOption
from softlab.sharing.publish.gc import GcOptions, GcReport, collect_garbage

SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


def gc(
    url: Annotated[str, typer.Argument(help="Where stores are published: a URL, or a folder.", show_default=False)],
    older_than: Annotated[str, typer.Option(help="Only what was last written to so long ago: 12h, 7d, 4w.")] = "7d",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Remove nothing; tell what would go.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Remove what pushes left that were given up, and dumps to an object store. Published versions always stay."""
    options = GcOptions(older_than_s=_seconds(older_than), dry_run=dry_run)
    with rows_bar(unit="leftovers") as bar:
        report = collect_garbage(url, options=options, on_leftover=lambda done, total: bar(done, "", total))
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(report)).decode())
    else:
        _show(report, dry_run=dry_run)


def _seconds(text: str) -> float:
    match = re.fullmatch(r"([0-9]{1,6})([mhdw])", text)
    if match is None:
        raise InvalidOption(f"--older-than {text}: is no length of time. Write a number and m, h, d or w: 7d.")
    return float(int(match[1]) * SECONDS[match[2]])


def _show(report: GcReport, *, dry_run: bool) -> None:
    rows = [
        [
            each.path,
            each.kind,
            f"{each.files:,}",
            format_bytes(each.bytes),
            f"{each.newest:%Y-%m-%d}" if each.newest else "-",
        ]
        for each in report.leftovers
    ]
    if rows:
        print_table(["leftover", "what", "files", "size", "written"], rows)
    files, size = sum(each.files for each in report.leftovers), sum(each.bytes for each in report.leftovers)
    say(f"{'would remove' if dry_run else 'removed'} {format_count(files, 'file')}, {format_bytes(size)}")
    for path in report.in_use:
        say(f"left alone, because somebody is at work on it: {path}")

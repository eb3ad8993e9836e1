"""What `inspect --rows` and `--thumbnails` show: samples with the teacher's classes by name."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from softlab.amounts import format_count
from softlab.cli.say import say
from softlab.cli.tables import fit_as_table, print_facts, print_table
from softlab.errors import InvalidOption, printable
from softlab.modalities.opening import open_source
from softlab.report.sample_page import check_page, write_sample_page
from softlab.store.cache import CacheOptions
from softlab.store.reader import open_store
from softlab.store.sample_rows import SampleRow, sample_rows

ROWS, PICTURES = 8, 48
"""Shown where no number is given."""


def show_rows(name: str, count: int | None, *, thumbnails: Path | None, source: str | None, as_json: bool) -> None:
    """Some samples of a store as a table, as JSON, or as a page of images."""
    store = open_store(name, cache=CacheOptions(max_bytes=0))
    if thumbnails is None:
        _print(sample_rows(store, count or ROWS), as_json=as_json)
        return
    check_page(store, thumbnails)
    if source is None:
        raise InvalidOption(
            f"{name}: records its data as {store.manifest.source.name}, not where that lies on this machine. Give its "
            f"folder or file as `source`."
        )
    rows = sample_rows(store, count or PICTURES)
    write_sample_page(store, rows, open_source(source), thumbnails)
    say(f"{thumbnails}: {format_count(len(rows), 'sample')}")


def _print(rows: Sequence[SampleRow], *, as_json: bool) -> None:
    if as_json:
        values = [asdict(row) | {"content_hash": row.content_hash.hex()} for row in rows]
        print(json.dumps({"rows": values}, indent=1))
        return
    shown = [_facts(row) for row in rows]
    if fit_as_table(shown):
        print_table(list(shown[0]), [list(row.values()) for row in shown])
        return
    for row in shown:
        print_facts(row)
        print()


def _facts(row: SampleRow) -> dict[str, str]:
    target = "-" if row.target is None else row.target_name or str(row.target)
    facts = {
        "sample": printable(row.key),
        "target": target,
        "teacher": printable(", ".join(map(str, row.classes))),
        "confidence": f"{row.confidence:.3f}",
        "tail": f"{row.tail:.4f}",
    }
    if row.unit is not None:
        facts["unit"] = str(row.unit)
    return facts

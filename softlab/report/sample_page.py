"""A page of samples as images, each with what the teacher said of it, in one file: HTML, or a PNG contact sheet."""

import base64
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from softlab.amounts import format_count
from softlab.errors import InvalidOption, StoreMismatch
from softlab.keys import Keys
from softlab.loading.sample_check import changed_sample
from softlab.modalities.images.contact_sheet import PIXELS, Picture, contact_sheet_png
from softlab.modalities.images.thumbnail import thumbnail_png
from softlab.modalities.modality import decode_sample, find_modality
from softlab.sources.source import Sample, Source
from softlab.store.files import write_files
from softlab.store.reader import Store
from softlab.store.sample_rows import SampleRow

SUFFIXES = (".html", ".htm", ".png")
STYLE = (
    "body{font:14px/1.4 system-ui,sans-serif;margin:2em}main{display:flex;flex-wrap:wrap;gap:1em}"
    f"figure{{margin:0;width:{PIXELS + 80}px}}img{{width:{PIXELS}px;height:{PIXELS}px;object-fit:contain;"
    "background:#eee;image-rendering:pixelated}figcaption{overflow-wrap:anywhere}.other{color:#b00}"
)


def check_page(store: Store, out: Path) -> None:
    """Raises InvalidOption for a store of no images, or a file that is neither HTML nor PNG."""
    modality = store.manifest.inputs[0].modality
    if modality != "images":
        raise InvalidOption(
            f"{store.name}: its teacher read {modality}, and `thumbnails` are of images. Leave them out; `rows` shows "
            f"samples of any kind."
        )
    if out.suffix.lower() not in SUFFIXES:
        raise InvalidOption(
            f"{out}: `thumbnails` are written as HTML or PNG. Name a file such as {out.with_suffix('.html')}."
        )


def write_sample_page(store: Store, rows: Sequence[SampleRow], source: Source, out: str | Path) -> None:
    """The images are those of the source as they lie there; each is compared with what the teacher saw by its hash.

    Raises InvalidOption as `check_page`, StoreMismatch for a sample that the source lacks or that has changed,
    UnreadableSample.
    """
    out = Path(out)
    check_page(store, out)
    pictures = [_picture(row, sample) for row, sample in zip(rows, _samples(store, rows, source), strict=True)]
    title = f"{store.manifest.teacher.model} on {store.manifest.source.name}"
    facts = f"{format_count(len(rows), 'sample')} of {store.num_samples:,}, digest {store.digest[:12]}"
    if out.suffix.lower() == ".png":
        page = contact_sheet_png(f"{title}: {facts}", pictures)
    else:
        page = _html(escape(title), escape(facts), pictures).encode()
    write_files(out.parent, {out.name: page})


def _html(title: str, facts: str, pictures: Sequence[Picture]) -> str:
    figures = "\n".join(map(_figure, pictures))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
        f"<h1>{title}</h1><p>{facts}</p><main>\n{figures}\n</main></html>\n"
    )


def _samples(store: Store, rows: Sequence[SampleRow], source: Source) -> Iterator[Sample]:
    places = Keys(source.keys).find(Keys([row.key for row in rows])).tolist()
    for row, place in zip(rows, places, strict=True):
        if place < 0:
            raise StoreMismatch(
                f"{store.name}: its sample {row.key!r} isn't in {source.name}. Point `source` at the data the teacher "
                f"saw."
            )
        sample = source.read(place)
        if sample.content_hash != row.content_hash:
            raise changed_sample(source, place, where=store.name, next_step="Point `source` at the data it saw.")
        yield sample


def _picture(row: SampleRow, sample: Sample) -> Picture:
    is_other = row.target is not None and row.target_name is not None and row.target != row.classes[0].class_id
    target = () if row.target is None else (f"target {row.target_name or row.target}",)
    tail = f"tail {row.tail:.3f} at T={row.temperature:g}"
    return Picture(
        png=thumbnail_png(decode_sample(sample, find_modality("images")), pixels=PIXELS),
        lines=(row.key, *target, *map(str, row.classes), tail),
        odd_line=1 if is_other else None,
    )


def _figure(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode()
    key, *lines = map(escape, picture.lines)
    told = [f"<b>{key}</b>"]
    for number, line in enumerate(lines, start=1):
        told.append(f"<span class=other>{line}</span>" if number == picture.odd_line else line)
    return (
        f'<figure><img alt="" src="data:image/png;base64,{data}"><figcaption>{"<br>".join(told)}</figcaption></figure>'
    )

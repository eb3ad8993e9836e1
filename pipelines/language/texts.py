"""Real English text: Jane Austen's six novels, and Python's documentation, as documents of a few thousand characters.

    python pipelines/language/texts.py

They are in the Debian packages r-cran-janeaustenr and python3.11-doc, which are read where they are installed, and
otherwise downloaded by apt (no root is needed). Every tenth document is for validation; the order is a random one, so
that the first documents are of all kinds. `runs/language/train.parquet` and `valid.parquet` have the columns `key` and
`text`.
"""

import random
import re
import struct
import zlib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from debian import files_of

import softlab
from softlab.sources.source import Source

FOLDER = Path("runs/language")
DOWNLOADS = FOLDER / "download"
NOVELS, DOCS = "r-cran-janeaustenr", "python3.11-doc"
PLACES = {
    NOVELS: "usr/lib/R/site-library/janeaustenr/data/Rdata.rdb",
    DOCS: "usr/share/doc/python3.11/html",
}
SECTIONS = ("tutorial", "howto", "faq", "library", "reference")
LONGEST = 4_000
"""Characters of a document, which ends with a paragraph; one about 1,000 tokens long is what a model reads at once."""

SHORTEST = 400
VALID_EVERY = 10
MARGIN = re.compile(r"[ \t]+$", re.MULTILINE)
BLANK = re.compile(r"\n{2,}")


def main() -> None:
    for part, path in write_texts().items():
        texts = read_texts(path)
        print(f"{part}: {len(texts):,} documents, {sum(map(len, texts.values())):,} characters")


def write_texts() -> dict[str, Path]:
    """The files by part; those that are there stay."""
    paths = {part: FOLDER / f"{part}.parquet" for part in ("train", "valid")}
    if not all(path.exists() for path in paths.values()):
        documents = [
            *read_novels(files_of(NOVELS, PLACES[NOVELS], downloads=DOWNLOADS)),
            *read_docs(files_of(DOCS, PLACES[DOCS], downloads=DOWNLOADS)),
        ]
        random.Random(0).shuffle(documents)
        is_valid = [place % VALID_EVERY == 0 for place in range(len(documents))]
        for part, path in paths.items():
            chosen = [each for each, valid in zip(documents, is_valid, strict=True) if valid == (part == "valid")]
            write_file(path, dict(chosen))
    return paths


def write_file(path: Path, texts: dict[str, str]) -> Path:
    """Of texts by key."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"key": list(texts), "text": list(texts.values())}), path)
    return path


def read_texts(path: Path) -> dict[str, str]:
    """Texts by key."""
    columns = pq.read_table(path).to_pydict()
    return dict(zip(columns["key"], columns["text"], strict=True))


def open_texts(path: Path, *, limit: int | None = None) -> Source:
    """The first ones as softlab reads them."""
    options = softlab.SourceOptions(path=str(path), fields={"text": "text"}, key_column="key", limit=limit)
    return softlab.open_source(options, modality="tokens")


def read_novels(database: Path) -> Iterator[tuple[str, str]]:
    """Key and text of each document. The file holds one compressed R object a novel, its lines."""
    data, place = database.read_bytes(), 0
    while place < len(data):
        inflater = zlib.decompressobj()
        lines = lines_of(inflater.decompress(data[place + 4 :]))  # behind the number of its bytes
        place = len(data) - len(inflater.unused_data)
        if lines:
            yield from documents_of(lines[0].title(), "\n".join(lines))


def lines_of(serialized: bytes) -> list[str]:
    """Of a vector of texts as R serialises it; no lines of another object."""
    (encoding_bytes,) = struct.unpack_from(">i", serialized, 14)
    place = 18 + encoding_bytes
    kind, count = struct.unpack_from(">ii", serialized, place)
    if kind & 0xFF != 16:
        return []
    place, lines = place + 8, []
    for _ in range(count):
        _, length = struct.unpack_from(">ii", serialized, place)
        lines.append(serialized[place + 8 : place + 8 + length].decode())
        place += 8 + length
    return lines


def read_docs(folder: Path) -> Iterator[tuple[str, str]]:
    for section in SECTIONS:
        for file in sorted((folder / section).glob("*.html")):
            page = TextOfPage()
            page.feed(file.read_text(encoding="utf-8"))
            yield from documents_of(f"{section}/{file.stem}", "".join(page.parts))


def documents_of(name: str, text: str) -> Iterator[tuple[str, str]]:
    """Whole paragraphs until there are enough, none of which is cut."""
    paragraphs = [each.strip("\n") for each in BLANK.split(MARGIN.sub("", text)) if each.strip()]
    number, together = 0, ""
    for paragraph in [*paragraphs, ""]:
        if together and (not paragraph or len(together) + len(paragraph) > LONGEST):
            if len(together) >= SHORTEST:
                yield f"{name}-{number:04d}", together
                number += 1
            together = ""
        together = f"{together}\n\n{paragraph}".strip("\n")[:LONGEST]


class TextOfPage(HTMLParser):
    """What stands in the main part of a page that Sphinx made."""

    BLOCKS = frozenset(("p", "li", "dt", "dd", "h1", "h2", "h3", "h4", "pre", "div", "section", "tr"))
    UNSEEN = frozenset(("script", "style"))
    VOID = frozenset(("area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source", "wbr"))

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._open: list[tuple[str, str]] = []
        """Elements around the place that is read: their tag, and whether they begin the main part, or hide theirs."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        is_hidden = tag in self.UNSEEN or given.get("class") == "headerlink"
        if tag not in self.VOID:
            self._open.append((tag, "main" if given.get("role") == "main" else "hidden" if is_hidden else ""))
        self._end_block(tag)

    def handle_endtag(self, tag: str) -> None:
        while any(each == tag for each, _ in self._open):
            each, _ = self._open.pop()
            if each == tag:
                break
        self._end_block(tag)

    def handle_data(self, data: str) -> None:
        meanings = {meaning for _, meaning in self._open}
        if "main" in meanings and "hidden" not in meanings:
            self.parts.append(data)

    def _end_block(self, tag: str) -> None:
        if tag in self.BLOCKS and self.parts:
            self.parts.append("\n\n")


if __name__ == "__main__":
    main()

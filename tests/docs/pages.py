"""The pages of the documentation, and the code blocks in them.

What stands behind the three backticks says what a block is, and so what the tests do with it:

    console              commands, each behind `$ `, that are run
    python               code that is run; the blocks of a page share their names
    python NAME          the same; `YOURS` in test_blocks.py has what a reader brings along for it
    toml COMMAND         a whole recipe of a command, which is read; its first line may name the file that it goes to
    toml part of COMMAND a part of one, which is read together with the least that the command needs
    sh                   commands that are only looked at: what they name must exist
    nothing              no code
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[2]
LANGUAGES = ("console", "python", "toml", "sh", "")
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Block:
    """One code block."""

    page: str
    line: int
    language: str
    words: str
    """What stands behind the language."""

    text: str

    @property
    def place(self) -> str:
        """For messages."""
        return f"{self.page}:{self.line}"

    @property
    def lines(self) -> list[str]:
        """The lines of a command that goes on after a backslash are one."""
        return re.sub(r"\\\n\s*", "", self.text).splitlines()

    @property
    def commands(self) -> list[str]:
        """Without the prompt, and without what stands behind a hash."""
        return [re.sub(r"\s+#.*", "", line.removeprefix("$ ")) for line in self.lines]


@dataclass(frozen=True, kw_only=True)
class Page:
    """One Markdown file."""

    name: str
    """Its path from the root of the project."""

    text: str

    @property
    def folder(self) -> Path:
        return (ROOT / self.name).parent

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        return tuple(self._blocks())

    def _blocks(self) -> Iterator[Block]:
        for found in FENCE.finditer(self.text):
            language, _, words = found[1].partition(" ")
            line = self.text.count("\n", 0, found.start()) + 1
            yield Block(page=self.name, line=line, language=language, words=words, text=found[2])

    @cached_property
    def prose(self) -> str:
        """Without code blocks."""
        return FENCE.sub("", self.text)

    @property
    def code_in_prose(self) -> list[str]:
        return re.findall(r"`([^`\n]+)`", self.prose)

    @property
    def links(self) -> list[str]:
        """Where they lead, without those to other places."""
        without_code = re.sub(r"`[^`\n]*`", "", self.prose)
        found = re.findall(r"\]\(([^)\s]+)\)", without_code)
        return [link for link in found if "://" not in link]

    @cached_property
    def anchors(self) -> set[str]:
        """Of its headings, as GitHub makes them."""
        found: set[str] = set()
        for heading in re.findall(r"^#+ (.+)$", self.prose, re.MULTILINE):
            anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
            found.add(anchor if anchor not in found else f"{anchor}-1")
        return found


def read_page(name: str) -> Page:
    return Page(name=name, text=(ROOT / name).read_text())


def find_pages() -> dict[str, Page]:
    """All that are written by people, by name."""
    folders = ("softlab", "pipelines", "data", "tests/benchmarks")
    paths = [*ROOT.glob("*.md"), *(path for folder in folders for path in (ROOT / folder).rglob("*.md"))]
    names = sorted(path.relative_to(ROOT).as_posix() for path in paths)
    return {name: read_page(name) for name in names}


PAGES = find_pages()

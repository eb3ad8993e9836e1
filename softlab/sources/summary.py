"""What was found where a data set lies, and what of it was left out."""

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from softlab.amounts import format_count
from softlab.sources.file_kind import IMAGE_FILES, FileKind
from softlab.sources.source import Source


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What a folder holds beside its samples."""

    kind: FileKind = IMAGE_FILES
    """Of its samples."""

    suffixes: Mapping[str, int] = field(default_factory=dict)
    """Of the samples: how many files have each."""

    other_suffixes: Mapping[str, int] = field(default_factory=dict)
    """Of files that aren't taken, as no suffix of the kind is theirs."""

    hidden_folders: tuple[str, ...] = ()
    """Left out, with all that is in them: hidden ones, and those that programs leave behind."""

    hidden_files: int = 0
    """Left out: `.DS_Store`, `Thumbs.db` and such."""

    loops: tuple[str, ...] = ()
    """Links to a folder that they lie in; left out."""

    links_inside: tuple[str, ...] = ()
    """Links to another folder of the same data set: its files are there twice."""

    empty_classes: tuple[str, ...] = ()
    loose_files: int = 0
    """Samples beside the class folders; left out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceSummary:
    """A data set at a glance."""

    name: str
    num_samples: int
    num_classes: int | None
    """By its class names; None where it has none."""

    found: Found | None
    """Of a folder."""

    same_names: tuple[str, ...] = ()
    """Of classes that another one has too, in another Unicode form, such as é as one character or as two."""

    @property
    def note(self) -> str:
        """What was left out or is odd, in one line; empty where there is nothing to tell."""
        findings = [] if self.found is None else _odd(self.found)
        if self.same_names:
            findings.append(f"{_some(self.same_names, 'class', 'classes')} there twice, in two Unicode forms")
        if self.found is not None and self.num_classes is None:
            findings.insert(0, f"{self.found.kind.name}s without class folders, taken as samples without labels")
        return f"{self.name}: {'; '.join(findings)}" if findings else ""


def describe_source(source: Source) -> SourceSummary:
    """What was found, with its `note` for the user.

    print(softlab.describe_source(source).note)
    """
    return SourceSummary(
        name=source.name,
        num_samples=len(source),
        num_classes=None if source.class_names is None else len(source.class_names),
        found=_found_of(source),
        same_names=_same_names(source.class_names or ()),
    )


def count_suffixes(suffixes: Counter[str]) -> str:
    """`12 .heic, 3 .gif`, the most frequent first."""
    most = sorted(suffixes.items(), key=lambda each: (-each[1], each[0]))[:4]  # folders are listed in any order
    return ", ".join(f"{count:,} {suffix or 'without a suffix'}" for suffix, count in most)


def _same_names(class_names: Sequence[str]) -> tuple[str, ...]:
    counts = Counter(unicodedata.normalize("NFC", name) for name in class_names)
    return tuple(name for name, count in counts.items() if count > 1 and class_names.count(name) < count)


def _found_of(source: object) -> Found | None:
    whole = getattr(source, "source", None)  # of which this is a part
    found: Found | None = getattr(source, "found", None) if whole is None else _found_of(whole)
    return found


def _odd(found: Found) -> list[str]:
    lines, kind = [], found.kind
    if found.empty_classes:
        lines.append(f"no {kind.name}s for {_some(found.empty_classes, 'class', 'classes')}")
    if found.other_suffixes:
        suffixes = count_suffixes(Counter(found.other_suffixes))
        lines.append(f"left out files that aren't {kind.name}s ({suffixes}; {', '.join(kind.suffixes)} are taken)")
    if found.loose_files:
        lines.append(f"left out {format_count(found.loose_files, kind.name)} beside the class folders")
    if found.hidden_folders:
        lines.append(f"left out {_some(found.hidden_folders, 'hidden folder', 'hidden folders')}")
    if found.loops:
        lines.append(f"left out {_some(found.loops, 'link that leads', 'links that lead')} back to a folder around it")
    if found.links_inside:
        lines.append(
            f"{_some(found.links_inside, 'link leads', 'links lead')} to a folder of the same data set, whose "
            f"{kind.name}s are samples twice"
        )
    return lines


def _some(names: Sequence[str], one: str, several: str) -> str:
    more = ", .." if len(names) > 3 else ""
    return f"{len(names):,} {one if len(names) == 1 else several} ({', '.join(names[:3])}{more})"

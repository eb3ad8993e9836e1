"""Stores, published versions and runs whose files were changed by chance: they are read right, or refused in a line."""

import random
import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from softlab.disk import list_files
from softlab.manifest import MANIFEST_NAME
from tests.campaign import predictions, weights
from tests.campaign.commands import Place, Workshop
from tests.campaign.counts import Try
from tests.campaign.forged import forge
from tests.campaign.predictions import change_predictions
from tests.campaign.programs import Outcome, run_programs
from tests.campaign.readers import (
    FINISHED_READERS,
    PLAIN_READERS,
    SIGNED_READERS,
    STOPPED_READERS,
    STORE_READERS,
    VERSION_READERS,
    Reader,
    predictions_readers,
    weights_readers,
)
from tests.campaign.trees import DOCUMENT_CHANGES, FILE_CHANGES
from tests.campaign.weights import change_weights

SLOW_SHARE = 0.2
BATCH = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """Of things that are read."""

    names: tuple[str, ...]
    """In {made}."""

    readers: dict[str, Reader]

    change: Callable[[Path, random.Random], str] | None = None
    """What is done to it, told in words; without it `change_file`."""

    is_proven: bool = True
    """Whether every byte of it is vouched for by a hash that was not changed along with it."""

    file: str = ""
    """What a refusal has to name."""


KINDS = {
    "store": Kind(names=("two", "parquet"), readers=STORE_READERS),
    "store with units": Kind(names=("units-zarr", "units-parquet"), readers=PLAIN_READERS),
    "store in parts": Kind(names=("parts-zarr", "parts-parquet"), readers=PLAIN_READERS),
    "store of samples": Kind(names=("sampled-zarr", "sampled-parquet"), readers=PLAIN_READERS),
    "store with outputs": Kind(names=("outputs", "outputs-parquet"), readers=PLAIN_READERS),
    "store of format 1": Kind(names=("format_1/zarr", "format_1/parquet"), readers=PLAIN_READERS, is_proven=False),
    "published": Kind(names=("labels",), readers=VERSION_READERS, is_proven=False),
    "signed": Kind(names=("signed",), readers=SIGNED_READERS),
    "stopped run": Kind(names=("stopped",), readers=STOPPED_READERS),
    "finished run": Kind(names=("finished",), readers=FINISHED_READERS),
}
FORGED_KINDS = {
    name: replace(KINDS[name], change=forge, is_proven=False)
    for name in (
        "store",
        "store with units",
        "store in parts",
        "store of samples",
        "store with outputs",
        "store of format 1",
    )
}
PREDICTIONS_KINDS = {
    f"predictions as {suffix}": Kind(
        names=(f"predictions-{suffix}",),
        readers=predictions_readers(suffix),
        change=change_predictions,
        is_proven=False,
        file=f"p.{suffix}",
    )
    for suffix in predictions.SUFFIXES
}
WEIGHTS_KINDS = {
    f"weights as {suffix}": Kind(
        names=(f"weights-{suffix}",),
        readers=weights_readers(suffix),
        change=change_weights,
        is_proven=suffix == "safetensors",
        file=f"w.{suffix}",
    )
    for suffix in weights.SUFFIXES
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Changed:
    """Something that is to be read after it was changed."""

    kind: Kind
    name: str
    """In {made}."""

    reader: str
    seed: int

    @property
    def how(self) -> Reader:
        return self.kind.readers[self.reader]


def damage(workshop: Workshop, chance: random.Random) -> Iterator[Try]:
    """Endless: by chance."""
    return _change_and_read("damage", KINDS, workshop, chance)


def forgeries(workshop: Workshop, chance: random.Random) -> Iterator[Try]:
    """Endless: by a hostile publisher."""
    return _change_and_read("forgeries", FORGED_KINDS, workshop, chance)


def damaged_predictions(workshop: Workshop, chance: random.Random) -> Iterator[Try]:
    """Endless: by chance, and by hostile people."""
    return _change_and_read("imports", PREDICTIONS_KINDS, workshop, chance)


def damaged_weights(workshop: Workshop, chance: random.Random) -> Iterator[Try]:
    """Endless: the same."""
    return _change_and_read("weights", WEIGHTS_KINDS, workshop, chance)


def _change_and_read(part: str, kinds: Mapping[str, Kind], workshop: Workshop, chance: random.Random) -> Iterator[Try]:
    results: dict[tuple[str, str], object] = {}
    while True:
        batch = [_draw(kinds, chance) for _ in range(BATCH)]
        results |= _right_results(workshop, {(each.name, each.reader): each for each in batch}, known=results)
        places = [workshop.begin_with(each.name, number=number) for number, each in enumerate(batch)]
        told = [_change(place, each) for place, each in zip(places, batch, strict=True)]
        outcomes = _read(workshop, batch, places)
        for each, place, what, outcome in zip(batch, places, told, outcomes, strict=True):
            yield Try(
                part=part,
                row=f"{next(name for name, kind in kinds.items() if kind is each.kind)}: {each.reader}",
                what=f"{each.name}, {what}, seed {each.seed}",
                run=partial(_judge, each, place, outcome, results[each.name, each.reader]),
            )


def _draw(kinds: Mapping[str, Kind], chance: random.Random) -> Changed:
    kind = chance.choice(list(kinds.values()))
    readers = kind.readers
    reader = chance.choice([name for name in readers if not readers[name].is_slow or chance.random() < SLOW_SHARE])
    return Changed(kind=kind, name=chance.choice(kind.names), reader=reader, seed=chance.randrange(2**32))


def _right_results(
    workshop: Workshop, wanted: dict[tuple[str, str], Changed], *, known: Container[tuple[str, str]]
) -> dict[tuple[str, str], object]:
    """Of what nothing happened to."""
    missing = {key: each for key, each in wanted.items() if key not in known}
    places = [workshop.begin_with(name, number=number) for number, (name, _) in enumerate(missing)]
    outcomes = _read(workshop, list(missing.values()), places)
    assert not [outcome for outcome in outcomes if outcome.code != 0], outcomes
    found = zip(missing, missing.values(), places, outcomes, strict=True)
    return {key: each.how.result(place, outcome) for key, each, place, outcome in found}


def _read(workshop: Workshop, batch: Sequence[Changed], places: Sequence[Place]) -> list[Outcome]:
    programs = [each.how.program(place, each.name) for each, place in zip(batch, places, strict=True)]
    return [_placeless(outcome) for outcome in run_programs(programs, workshop.made.parent)]


def _placeless(outcome: Outcome) -> Outcome:
    """Without the number of its place."""
    return replace(outcome, out=re.sub(r"/here/\d\d\b", "/here", outcome.out))


def _change(place: Place, each: Changed) -> str:
    return (each.kind.change or change_file)(place.here / each.name, random.Random(each.seed))


def _judge(each: Changed, place: Place, outcome: Outcome, expected: object) -> tuple[str, str | None]:
    if outcome.complaint:
        return "", f"{outcome.complaint}\n{outcome.err}"
    if outcome.code != 0:
        return "refused", None if each.kind.file in outcome.err else f"doesn't name the file\n{outcome.err}"
    if each.how.result(place, outcome) == expected:
        return "right", None
    return "other", f"gives something else\n{outcome.out}" if each.kind.is_proven else None


def change_file(root: Path, chance: random.Random) -> str:
    """One of the files below a folder is another one, or two are; what was done, in words."""
    paths = list_files(root)
    documents = [path for path in paths if path.endswith((".json", ".jsonl"))]
    path = chance.choice(chance.choice([[MANIFEST_NAME] if MANIFEST_NAME in paths else documents, documents, paths]))
    target = root / path
    what = chance.choice(["document"] * 6 + ["bytes"] * 4 + ["removed", "swapped", "link", "folder"])
    data = target.read_bytes()
    if what == "document" and path.endswith(".json"):
        change = chance.choice(DOCUMENT_CHANGES)
        target.write_bytes(change(data, chance))
        return f"{path}: {change.__name__}"
    if what in ("removed", "link", "folder"):
        target.unlink()
        if what == "link":
            target.symlink_to(chance.choice(["/dev/zero", "/etc/passwd", path, str(root / chance.choice(paths))]))
        elif what == "folder":
            target.mkdir()
        return f"{path}: {what}"
    if what == "swapped":
        other = root / chance.choice(paths)
        data, theirs = target.read_bytes(), other.read_bytes()
        target.write_bytes(theirs)
        other.write_bytes(data)
        return f"{path}: swapped with {other.relative_to(root)}"
    name = chance.choice(list(FILE_CHANGES))
    target.write_bytes(FILE_CHANGES[name](data, chance))
    return f"{path}: {name}"

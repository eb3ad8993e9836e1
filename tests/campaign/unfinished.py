"""Dumps under way whose files were changed by chance: the same call goes on to the very same store, and computes what
was damaged and nothing else; or it is refused in a line that says what to do, and that works."""

import random
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from softlab.disk import list_files
from softlab.errors import DamagedShards, SoftlabError
from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.store.commit_record import read_commit
from softlab.store.folder import COMMITS
from softlab.store.place import files_at
from softlab.teacher.options import DumpOptions
from tests.campaign.commands import Workshop
from tests.campaign.counts import Try
from tests.campaign.trees import DOCUMENT_CHANGES, FILE_CHANGES
from tests.store.building import contents
from tests.teacher.dumping import dump, make_options, stop_at


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """Of dumps."""

    options: DumpOptions
    rows: int
    augment: ViewRecipe | None = None

    def dump(self, out: Path, *, until: int | None = None) -> int:
        """The rows that were computed."""
        on_progress = None if until is None else stop_at(until)
        return dump(out, self.options, augment=self.augment, on_progress=on_progress).rows_computed


KINDS = {
    "zarr": Kind(options=make_options(), rows=50),
    "parquet": Kind(options=make_options(format="parquet", coding="float16"), rows=50),
    "views": Kind(
        options=make_options(views=2, pixel_digests="all"),
        rows=100,
        augment=ViewRecipe(transforms=("RandomHorizontalFlip()",)),
    ),
}
SHAPES = ("removed", "swapped", "link", "folder")
LOOPS = 2
"""How often a refusal may say that the same command goes on."""


def unfinished(workshop: Workshop, chance: random.Random) -> Iterator[Try]:
    """Endless: by chance."""
    made = workshop.here.parent / "made"
    for name, kind in KINDS.items():
        kind.dump(made / name / "finished")
        with pytest.raises(KeyboardInterrupt):
            kind.dump(made / name / "begun", until=33)
    while True:
        name, seed = chance.choice(list(KINDS)), chance.randrange(2**32)
        run = partial(_change_and_go_on, KINDS[name], made / name, workshop.here / "out", random.Random(seed))
        yield Try(part="unfinished", row=name, what=f"{name}, seed {seed}", run=run)


def _change_and_go_on(kind: Kind, made: Path, out: Path, chance: random.Random) -> tuple[str, str | None]:
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(made / "begun", out)
    shards, before = _shards(out), contents(out)
    told = _change(out, chance)
    damaged = {shard for path, shard in shards.items() if not _is_same(out / path, before[path])}
    has_record = any((out / COMMITS / f"{shard}.json").exists() for shard, _ in damaged)  # else it looks never written
    left = {shard: rows for shard, rows in shards.values() if (shard, rows) not in damaged}
    end, complaint, computed = _go_on(kind, out)
    if complaint is None and contents(out) != contents(made / "finished"):
        complaint = "another store"
    if complaint is None and end == "went on" and computed != kind.rows - sum(left.values()):
        complaint = f"computed {computed} rows, and not {kind.rows - sum(left.values())}"
    if complaint is None and end == "went on" and has_record:
        complaint = "did not tell of damage"
    return end, None if complaint is None else f"{complaint}\n{told}"


def _go_on(kind: Kind, out: Path) -> tuple[str, str | None, int]:
    """How it ended, what is wrong with it, and how many rows were computed by a first call that was not refused."""
    end = "went on"
    for _ in range(LOOPS + 1):
        with warnings.catch_warnings(record=True) as notes:
            warnings.simplefilter("always")
            try:
                computed = kind.dump(out)
            except SoftlabError as error:
                end, step = "refused, then went on", str(error)
            except Exception as error:
                return end, f"{type(error).__name__}: {error}", 0
            else:
                is_told = any(issubclass(note.category, DamagedShards) for note in notes)
                return f"{end}, told of shards" if is_told else end, None, computed
        complaint = _follow(step, out)
        if complaint is not None:
            return end, complaint, 0
    return end, f"is refused again and again: {step}", 0


def _follow(step: str, out: Path) -> str | None:
    """Do what a refusal says; what is wrong where it says nothing of use."""
    if "\n" in step:
        return f"refuses in several lines: {step}"
    if f"Remove {out} and dump again" in step or "Choose another folder" in step:
        shutil.rmtree(out)
        return None
    if "; remove it" in step or ": remove it" in step:
        unwanted = Path(step.partition(": is a link")[0])
        unwanted.unlink() if unwanted.is_symlink() else shutil.rmtree(unwanted)
        return None
    return None if "again" in step else f"says nothing of use: {step}"


def _shards(out: Path) -> dict[str, tuple[str, int]]:
    """By path the shard that a file belongs to, and how many rows that has."""
    found: dict[str, tuple[str, int]] = {}
    for path in (out / COMMITS).glob("view-*.json"):
        record = read_commit(files_at(out), path.relative_to(out).as_posix())
        assert record is not None
        own = (path.relative_to(out).as_posix(), record.hashes_file.path, *(file.path for file in record.shard.files))
        found |= dict.fromkeys(own, (path.stem, record.shard.stop - record.shard.start))
    return found


def _is_same(path: Path, data: bytes) -> bool:
    return path.is_file() and not path.is_symlink() and path.read_bytes() == data


def _change(out: Path, chance: random.Random) -> str:
    """One file of a dump under way is another one, or two are; what was done, in words."""
    paths = list_files(out)
    kinds = [[path for path in paths if path.startswith(COMMITS) == own] for own in (True, False)]
    path, other = chance.choice(chance.choice(kinds)), chance.choice(paths)
    target, data = out / path, (out / path).read_bytes()
    changes = FILE_CHANGES | ({each.__name__: each for each in DOCUMENT_CHANGES} if path.endswith(".json") else {})
    what = chance.choice([*changes, *SHAPES])
    if what in changes:
        target.write_bytes(changes[what](data, chance))
    elif what == "swapped":
        target.write_bytes((out / other).read_bytes())
        (out / other).write_bytes(data)
    else:
        target.unlink()
        if what == "link":
            target.symlink_to(chance.choice(["/dev/zero", "/etc/passwd", str(out / other)]))
        elif what == "folder":
            target.mkdir()
    return f"{path}: {what}{f' with {other}' if what == 'swapped' else ''}"

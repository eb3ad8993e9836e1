"""A store that views are added to at a chosen moment: just before somebody's so-manieth read of one of its files."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import msgspec

from softlab.disk import list_files
from softlab.manifest import MANIFEST_NAME, StorePlan
from softlab.store.folder import PLAN_NAME
from softlab.store.manifest_file import read_manifest
from tests.store.building import write_store


class Stopped(Exception):
    """Adding views was interrupted."""


def add_a_view(root: Path, *, is_finished: bool) -> None:
    """With all its files, but maybe without the manifest that tells of them."""
    manifest, digest = read_manifest(root)
    views = msgspec.structs.replace(manifest.views, num_views=manifest.views.num_views + 1)
    plan: StorePlan = msgspec.structs.replace(manifest.plan, views=views, parent=digest)
    if is_finished:
        write_store(root, plan)
        return
    try:
        with mock.patch("softlab.store.last_files.renewed_card", side_effect=Stopped):
            write_store(root, plan)
    except Stopped:
        return


def become(store: Path, larger: Path) -> None:
    """The files of a store that a view was added to take their places, in the order of a dump."""
    names = sorted(list_files(larger), key=lambda name: (name == MANIFEST_NAME, name != PLAN_NAME, "zarr.json" in name))
    for name in names:
        target = store / name
        target.parent.mkdir(parents=True, exist_ok=True)
        new = target.with_name("new")
        new.write_bytes((larger / name).read_bytes())
        os.replace(new, target)


@contextmanager
def before_read(folder: Path, number: int, act: Callable[[], object]) -> Iterator[list[str]]:
    """Do something before the so-manieth file of a folder is opened inside; gives the names of those that were."""
    names: list[str] = []
    is_on = True

    def audit(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal is_on
        if is_on and event == "open" and str(arguments[0]).startswith(f"{folder}/"):
            names.append(str(arguments[0]).removeprefix(f"{folder}/"))
            if len(names) == number:
                is_on = False
                act()

    sys.addaudithook(audit)  # which can't be removed
    try:
        yield names
    finally:
        is_on = False

"""What the tests of publishing share: stores of some few files, pushes, and what is published afterwards."""

import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import msgspec

from softlab.manifest import MANIFEST_NAME, decode_manifest, encode
from softlab.remote.address import parse_address
from softlab.remote.connect import connect
from softlab.remote.remote import Remote
from softlab.sharing.catalogue.catalog import read_catalog
from softlab.sharing.catalogue.versions import list_versions
from softlab.sharing.publish.push import Pushed, PushOptions, push
from softlab.store.files import read_file
from softlab.store.published import read_version, store_path
from softlab.store.reader import open_store
from tests.store.building import copy_store, make_plan

OPTIONS = PushOptions(licence="CC-BY-4.0", terms="its outputs are free")


def small_store(path: Path, *, k: int = 3, features: Mapping[str, tuple[int, ...]] = {}) -> Path:
    """Of one view in two shards."""
    copy_store(path, make_plan(num_samples=7, num_views=1, k=k, features=features))
    return path


def variant(store: Path, out: Path, seed: int, *, parent: str | None = None) -> Path:
    """Another store, whose manifest alone differs: its files are links to the same ones."""
    shutil.copytree(store, out, copy_function=os.link)
    manifest, _ = decode_manifest((store / MANIFEST_NAME).read_bytes(), where=str(store))
    teacher = msgspec.structs.replace(manifest.teacher, arguments={"seed": seed})
    (out / MANIFEST_NAME).unlink()
    (out / MANIFEST_NAME).write_bytes(encode(msgspec.structs.replace(manifest, teacher=teacher, parent=parent)))
    return out


def publish(store: Path, place: str, *, options: PushOptions = OPTIONS) -> Pushed:
    return push(store, place, options=options)


def remote_of(root: str) -> Remote:
    return connect(parse_address(root))


def published(root: str, name: str = "pets") -> dict[int, str]:
    """Version to digest, as the records say."""
    remote = remote_of(root)
    return {version: read_version(remote, name, version).digest for version in list_versions(remote, name)}


def catalogued(root: str, name: str = "pets") -> dict[int, str]:
    """The same as `catalog.json` says, where each version is once."""
    written = msgspec.json.decode(remote_of(root).read("catalog.json", max_bytes=1 << 24))["versions"]
    found = [(each["version"], each["digest"]) for each in written if each["name"] == name]
    assert len(found) == len(dict(found))
    return dict(found)


def assert_is_readable(root: str, version: int, name: str = "pets") -> None:
    """Every file is there, with the recorded bytes."""
    store = open_store(f"{root}/{name}@{version}")
    assert store.digest == published(root, name)[version]
    for file in store.manifest.files:
        read_file(store.path, file)


def tree_of(root: str, digest: str, name: str = "pets") -> list[str]:
    """What lies in the tree of a store."""
    return [each.path for each in remote_of(root).within(store_path(name, digest)).list_objects()]


def digest_of_store(store: Path) -> str:
    return open_store(store).digest


def latest(root: str, name: str = "pets") -> int:
    tags = {tag.tag: tag.version for tag in read_catalog(root).tags if tag.name == name}
    return tags["latest"]


def push_slowly(store: Path, place: str, environment: Mapping[str, str], pause_s: float, acknowledged: Path) -> None:
    """In a process of its own, one file at a time; what is published is written down when `push` has said so."""
    os.environ.update(environment)
    options = replace(OPTIONS, jobs=1)
    pushed = push(store, place, options=options, on_progress=lambda done, total: time.sleep(pause_s))
    acknowledged.write_bytes(msgspec.json.encode(pushed))

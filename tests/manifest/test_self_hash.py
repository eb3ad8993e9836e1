"""A manifest of format 2 holds its own hash: what was changed in its file is found before anything of it is used."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from blake3 import blake3

from softlab.errors import DamagedStore, StoreError
from softlab.manifest import MANIFEST_NAME, decode_manifest, encode
from softlab.store.reader import open_store
from softlab.store.verify import verify_store
from tests.store.building import make_plan, write_store
from tests.store.remote import publish

NUM_FLIPS = 2_000

Steps = tuple[str | int, ...]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of each kind of value: text, counts, lists, numbers with a fraction, null. A test puts back what it
    changes."""
    root = tmp_path_factory.mktemp("store")
    write_store(root, make_plan(coding="uint8"))
    return root


@pytest.fixture
def good(store: Path) -> Iterator[bytes]:
    data = (store / MANIFEST_NAME).read_bytes()
    yield data
    (store / MANIFEST_NAME).write_bytes(data)


def self_line(data: bytes) -> bytes:
    (line,) = [line for line in data.split(b"\n") if line.startswith(b' "self": ')]
    return line


# What it is.


def test_it_is_the_hash_of_the_document_without_its_line(good: bytes) -> None:
    lines = good.split(b"\n")

    lines.remove(self_line(good))

    assert json.loads(good)["self"] == blake3(b"\n".join(lines)).hexdigest()


def test_a_manifest_that_is_read_and_written_is_the_same_bytes(good: bytes) -> None:
    manifest, _ = decode_manifest(good, where="store")

    assert encode(manifest) == good


# What is found.


def test_every_flipped_bit_is_found(store: Path, good: bytes) -> None:
    drawn = random.Random(0).sample(range(8 * len(good)), NUM_FLIPS)
    opened = []
    for number in drawn:
        flipped = bytearray(good)
        flipped[number // 8] ^= 1 << number % 8
        (store / MANIFEST_NAME).write_bytes(flipped)
        try:
            open_store(store)
        except StoreError:
            continue
        opened.append(number)

    assert opened == []


def places(tree: Any, *above: str | int) -> Iterator[Steps]:
    """Of all values in a tree of JSON, tables and lists included."""
    if above:
        yield above
    steps: Any = tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for step in steps:
        yield from places(tree[step], *above, step)


def edits(value: Any) -> list[Any]:
    """Other values in the place of one: near ones, such as a person may write, and those that fit nothing."""
    if isinstance(value, bool):
        return [not value, None]
    if isinstance(value, int):
        return [value + 1, value - 1, 2 * value, 0, -1, 1 << 62, str(value)]
    if isinstance(value, float):
        return [value / 2, value + 1, 0.0, 1e300, None]
    if isinstance(value, str):
        return [value + "x", value[:-1], value[1:] + value[:1], value.upper(), "", "0" * 64, None]
    if isinstance(value, list):
        return [value[:-1], value[::-1], value + value, [], None]
    if isinstance(value, dict):
        return [{key: value[key] for key in value if key != left_out} for left_out in value] + [value | {"x": 1}, {}]
    return [0, "0" * 64, []]


def edited(tree: Any, path: Steps, value: Any) -> Any:
    """A copy with another value in one place."""
    if not path:
        return value
    step, *rest = path
    copy: Any = list(tree) if isinstance(tree, list) else dict(tree)
    copy[step] = edited(copy[step], tuple(rest), value)
    return copy


def laid_out(tree: Any) -> bytes:
    """As softlab lays a manifest out, so that nothing but the value differs."""
    return msgspec.json.format(msgspec.json.encode(tree), indent=1) + b"\n"


def test_every_edited_value_is_found(good: bytes) -> None:
    tree = json.loads(good)
    assert laid_out(tree) == good
    accepted = []
    for path in places(tree):
        value: Any = tree
        for step in path:
            value = value[step]
        for other in edits(value):
            if (other, type(other)) == (value, type(value)):
                continue
            try:
                decode_manifest(laid_out(edited(tree, path, other)), where="store")
            except StoreError:
                continue
            accepted.append((path, other))

    assert accepted == []


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda tree: json.dumps(tree).encode(),
        lambda tree: json.dumps(tree, indent=2).encode(),
        lambda tree: laid_out({"self": tree["self"]} | tree | {"softlab_version": "0.1.1"}),
        lambda tree: laid_out({key: tree[key] for key in tree if key != "self"}),
        lambda tree: laid_out(tree | {"self": ""}),
        lambda tree: laid_out(tree | {"self": "0" * 64}),
        lambda tree: laid_out(tree | {"self": tree["self"].upper()}),
        lambda tree: laid_out(tree).replace(b"\n", b"\r\n"),
        lambda tree: laid_out(tree) + b"\n",
        lambda tree: b" " + laid_out(tree),
    ],
    ids=["one line", "other indent", "edited", "left out", "empty", "zeros", "upper", "line ends", "longer", "space"],
)
def test_a_document_that_was_written_anew_is_told_to_be_damaged(store: Path, good: bytes, rewrite: Any) -> None:
    (store / MANIFEST_NAME).write_bytes(rewrite(json.loads(good)))

    for use in (open_store, verify_store):
        with pytest.raises(DamagedStore, match=r"manifest\.json: is not what was written: .* Get the store again\."):
            use(store)


def test_a_line_of_the_same_words_inside_is_not_taken_for_it(tmp_path: Path) -> None:
    """Only keys of the document itself are indented by one space, and a line's end in a string is written as \\n."""
    plan = make_plan()
    arguments = {"self": "0" * 64, "text": '\n "self": "' + "1" * 64 + '",'}
    plan = msgspec.structs.replace(plan, teacher=msgspec.structs.replace(plan.teacher, arguments=arguments))

    write_store(tmp_path, plan)

    assert open_store(tmp_path).manifest.teacher.arguments == arguments


# What is not found, for which there are digests and signatures.


def forge(store: Path, **changes: object) -> None:
    """Write the manifest with other values, and its own hash computed anew."""
    manifest = open_store(store).manifest
    (store / MANIFEST_NAME).write_bytes(encode(msgspec.structs.replace(manifest, **changes)))


def test_a_forged_manifest_opens_but_has_another_digest(store: Path, good: bytes) -> None:
    digest = open_store(store).digest

    forge(store, softlab_version="9.9.9")

    assert open_store(store).manifest.softlab_version == "9.9.9"
    assert open_store(store).digest == verify_store(store).digest != digest


def test_a_forged_manifest_that_vouches_for_other_bytes_is_reported(store: Path, good: bytes) -> None:
    samples = open_store(store).manifest.samples_file

    forge(store, samples_file=msgspec.structs.replace(samples, blake3="0" * 64))

    assert verify_store(store).damaged == ["samples.parquet"]


def test_a_forged_manifest_of_a_published_version_is_refused(tmp_path: Path, store: Path, good: bytes) -> None:
    version = publish(store, str(tmp_path))
    forge(store, softlab_version="0.1.1")  # of the same length

    (tmp_path / "pets/stores" / version.digest / MANIFEST_NAME).write_bytes((store / MANIFEST_NAME).read_bytes())

    for use in (open_store, verify_store):
        with pytest.raises(DamagedStore, match=r"not the one that was published as pets@1 .* tell whoever published"):
            use(str(tmp_path / "pets@1"))

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from softlab.errors import InvalidOption, ObjectMissing, SoftlabWarning, UnsupportedStore
from softlab.identity import content_hash, keys_fingerprint, source_fingerprint
from softlab.manifest import encode
from softlab.manifest.versions import VersionRecord, summarise
from softlab.remote import attempts
from softlab.remote.folder import FolderBackend
from softlab.remote.remote import Remote
from softlab.sharing.catalogue.catalog import Catalog, find_for, read_catalog, update_catalog
from softlab.sharing.publish.push import PushOptions, push
from softlab.sources.source import Sample
from softlab.store.published import version_path
from tests.manifests import make_manifest
from tests.servers.web import serving
from tests.sharing.publishing import catalogued, publish, published, remote_of, small_store

WRITER = "0" * 32


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two versions of pets, of which the second is stable too, and one of birds."""
    root = tmp_path / "labels"
    stores = [small_store(tmp_path / f"store-{k}", k=k) for k in (3, 4, 5)]
    publish(stores[0], f"{root}/pets")
    push(stores[1], f"{root}/pets", options=PushOptions(licence="MIT", terms="", tags=("latest", "stable")))
    publish(stores[2], f"{root}/birds")
    return root


@pytest.fixture
def url(root: Path) -> Iterator[str]:
    """The same, handed out by a web server."""
    with serving(root) as url:
        yield url


def names(found: list[VersionRecord] | tuple[VersionRecord, ...]) -> list[str]:
    return [f"{each.name}@{each.version}" for each in found]


def record_of(name: str, version: int, **changes: str) -> VersionRecord:
    return VersionRecord(
        name=name,
        version=version,
        digest="0" * 64,
        manifest_bytes=1,
        published="2026-01-01T00:00:00Z",
        writer=WRITER,
        licence="MIT",
        terms="",
        summary=msgspec.structs.replace(summarise(make_manifest()), **changes),
    )


def test_a_catalogue_lists_all_versions_with_their_tags(root: Path) -> None:
    catalog = read_catalog(root)

    assert names(catalog.versions) == ["birds@1", "pets@1", "pets@2"]
    assert [catalog.tags_of(each) for each in catalog.versions] == [["latest"], [], ["latest", "stable"]]
    assert [each.summary.k for each in catalog.versions] == [5, 3, 4]
    assert catalog.updated is None


def test_a_bucket_is_listed_as_a_folder_is(bucket: str, tmp_path: Path) -> None:
    publish(small_store(tmp_path / "store"), f"{bucket}/team/pets")

    assert names(read_catalog(f"{bucket}/team").versions) == ["pets@1"]


def test_a_web_server_is_asked_for_the_written_catalogue(root: Path, url: str) -> None:
    catalog = read_catalog(url)

    assert names(catalog.versions) == ["birds@1", "pets@1", "pets@2"]
    assert catalog.tags == read_catalog(root).tags
    assert catalog.updated is not None


def test_a_web_server_without_a_catalogue_is_told(root: Path, url: str) -> None:
    (root / "catalog.json").unlink()

    with pytest.raises(ObjectMissing, match=r"catalog\.json.*Check the address"):
        read_catalog(url)


def test_the_written_catalogue_is_not_what_a_folder_is_judged_by(root: Path) -> None:
    (root / "catalog.json").write_bytes(b"{}")

    assert names(read_catalog(root).versions) == ["birds@1", "pets@1", "pets@2"]


def test_a_version_is_no_place_of_a_catalogue(root: Path) -> None:
    with pytest.raises(InvalidOption, match="Give what stands before its name"):
        read_catalog(f"{root}/pets@1")


def test_where_nothing_is_published_the_catalogue_is_empty(tmp_path: Path) -> None:
    assert read_catalog(tmp_path).versions == ()


@pytest.mark.parametrize("record", [b'{"format_version": 1}', b" " * (2 << 20)], ids=["no record", "too large"])
def test_a_record_that_can_not_be_read_is_left_out_with_a_warning(root: Path, record: bytes) -> None:
    (root / version_path("pets", 1)).write_bytes(record)

    with pytest.warns(SoftlabWarning, match=r"pets/versions/1\.json"):
        catalog = read_catalog(root)

    assert names(catalog.versions) == ["birds@1", "pets@2"]


def test_a_search_finds_versions_that_have_all_its_words(root: Path) -> None:
    catalog = read_catalog(root)

    assert names(catalog.search("stable")) == ["pets@2"]
    assert names(catalog.search("pets@1")) == ["pets@1"]
    assert names(catalog.search("PETS cc-by")) == ["birds@1", "pets@1"]  # the data set of all is folder:pets
    assert names(catalog.search(catalog.versions[0].digest[:9])) == ["birds@1"]
    assert catalog.search("pets unicorns") == []


class Words:
    """A source of words, which stand for their contents."""

    name, class_names, field_names, skipped = "words", None, ("word",), ()
    targets: ClassVar[dict[str, NDArray[np.int64]]] = {}

    def __init__(self, words: list[str], *, contents: list[str] | None = None) -> None:
        self.keys, self._contents = words, contents or words

    def __len__(self) -> int:
        return len(self.keys)

    def read(self, index: int) -> Sample:
        word = self._contents[index]
        return Sample(
            index=index,
            key=self.keys[index],
            fields={"word": word},
            content_hash=content_hash(word.encode()),
            place=f"words/{index}",
        )


@pytest.fixture
def words() -> Catalog:
    """Labels of the same keys with other contents, of these very samples, and of others."""
    keys, contents = ["a", "b"], ["a", "b"]
    same = keys_fingerprint(keys)
    whole = source_fingerprint(keys, [content_hash(each.encode()) for each in contents])
    versions = (
        record_of("changed", 1, keys_fingerprint=same),
        record_of("same", 1, keys_fingerprint=same, source_fingerprint=whole),
        record_of("strange", 1),
    )
    return Catalog(root="labels", versions=versions, tags=())


def test_labels_are_found_by_the_keys_of_ones_own_data(words: Catalog) -> None:
    assert names(find_for(words, Words(["a", "b"]))) == ["changed@1", "same@1"]
    assert find_for(words, Words(["b", "a"])) == []


def test_labels_are_found_by_the_contents_of_ones_own_data(words: Catalog) -> None:
    told: list[tuple[int, int]] = []

    found = find_for(
        words,
        Words(["a", "b"]),
        contents=True,
        on_sample=lambda done, total: told.append((done, total)),
    )

    assert names(found) == ["same@1"]
    assert told == [(1, 2), (2, 2)]
    assert find_for(words, Words(["a", "b"], contents=["a", "c"]), contents=True) == []


def test_a_catalogue_that_is_right_is_not_written_again(root: Path) -> None:
    before = (root / "catalog.json").stat()

    update_catalog(remote_of(str(root)), writer=WRITER)

    assert (root / "catalog.json").stat() == before


@pytest.mark.parametrize("written", [b"", b"{}", b'{"format": "softlab-catalog", "format_version": 1, "versions": 7}'])
def test_a_catalogue_that_is_none_is_written_anew(root: Path, written: bytes) -> None:
    (root / "catalog.json").write_bytes(written)

    update_catalog(remote_of(str(root)), writer=WRITER)

    assert catalogued(str(root)) == published(str(root))


def test_a_catalogue_of_a_newer_softlab_is_not_replaced(root: Path) -> None:
    newer = b'{"format": "softlab-catalog", "format_version": 2}'
    (root / "catalog.json").write_bytes(newer)

    with pytest.raises(UnsupportedStore, match=r"catalog\.json.*Upgrade"):
        update_catalog(remote_of(str(root)), writer=WRITER)

    assert (root / "catalog.json").read_bytes() == newer


def test_no_version_is_lost_when_many_update_at_once(tmp_path: Path) -> None:
    root = tmp_path / "labels"

    def publish_some(name: str) -> None:
        remote = remote_of(str(root))
        for version in range(1, 6):
            remote.create(version_path(name, version), encode(record_of(name, version)))
            update_catalog(remote, writer=WRITER)

    threads = [threading.Thread(target=publish_some, args=(f"name-{number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for number in range(6):
        assert sorted(catalogued(str(root), f"name-{number}")) == [1, 2, 3, 4, 5]


class AlwaysLate(FolderBackend):
    """Somebody else has always just replaced the object."""

    def replace(self, path: str, data: bytes, *, tag: str) -> bool:
        return False


def test_an_update_that_never_gets_its_turn_warns_and_ends(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "GIVE_UP_S", 0.1)
    (root / version_path("pets", 7)).write_bytes(encode(record_of("pets", 7)))

    with pytest.warns(SoftlabWarning, match="The next push adds it"):
        update_catalog(Remote(str(root), AlwaysLate(root)), writer=WRITER)

    assert 7 not in catalogued(str(root))


def test_what_somebody_wrote_into_the_catalogue_is_gone_with_the_next_publication(root: Path, tmp_path: Path) -> None:
    written = json.loads((root / "catalog.json").read_text())
    for version in written["versions"]:
        version["licence"] = "anything goes"
        version["summary"]["accuracy"] = 1.0
    (root / "catalog.json").write_text(json.dumps(written))

    publish(small_store(tmp_path / "more", k=6), f"{root}/birds")

    told = json.loads((root / "catalog.json").read_text())["versions"]
    records = [json.loads((root / version_path(each["name"], each["version"])).read_text()) for each in told]
    assert told == records
    assert "anything goes" not in {each["licence"] for each in told}


def test_folders_of_other_things_are_no_names(root: Path) -> None:
    (root / "Not a name/versions").mkdir(parents=True)
    (root / "Not a name/versions/1.json").write_bytes(b"{")
    (root / "data/versions").mkdir(parents=True)
    (root / "data/versions/readme.json").write_bytes(b"{")
    (root / "data/tags").mkdir()
    (root / "data/tags/1.json").write_bytes(b"{")

    assert names(read_catalog(root).versions) == ["birds@1", "pets@1", "pets@2"]


def test_numbers_sort_as_numbers(tmp_path: Path) -> None:
    remote = remote_of(str(tmp_path))
    for version in np.random.default_rng(0).permutation(range(1, 13)):
        remote.create(version_path("pets", int(version)), encode(record_of("pets", int(version))))

    assert [each.version for each in read_catalog(tmp_path).versions] == list(range(1, 13))

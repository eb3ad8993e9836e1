import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from msgspec import UNSET, UnsetType

from softlab.errors import DamagedStore, InvalidOption, NotAStore, RemoteFailed, VersionTaken
from softlab.manifest.outputs import SampledRecord, SelectionRecord
from softlab.manifest.versions import Summary, VersionRecord, summarise
from softlab.remote import attempts
from softlab.remote.folder import FolderBackend
from softlab.remote.remote import Remote
from softlab.sharing.catalogue.versions import (
    check_version_free,
    list_tags,
    list_versions,
    move_tag,
    publish_version,
)
from softlab.store.published import read_tag, read_version, tag_path, version_path
from tests.manifests import LABELS, make_manifest
from tests.sharing.publishing import remote_of


@pytest.fixture
def remote(folder: str) -> Remote:
    return remote_of(folder)


def draft(digit: str, *, licence: str = "MIT", terms: str = "") -> VersionRecord:
    """Of a store and a writer of their own."""
    return VersionRecord(
        name="pets",
        version=1,
        digest=digit * 64,
        manifest_bytes=1,
        published="2026-01-01T00:00:00Z",
        writer=digit * 32,
        licence=licence,
        terms=terms,
        summary=summarise(make_manifest()),
    )


@pytest.mark.parametrize(
    ("selection", "told", "resolution"),
    [
        (SampledRecord(resolution=16), "sampled at 1/16", 16),
        (SelectionRecord(k=3, temperatures=(1.0, 4.0)), "3", UNSET),
    ],
)
def test_a_summary_tells_how_the_classes_of_a_row_were_chosen(
    selection: SelectionRecord | SampledRecord, told: str, resolution: int | UnsetType
) -> None:
    manifest = make_manifest(outputs=(msgspec.structs.replace(LABELS, selection=selection),))

    summary = summarise(manifest)

    assert (summary.kept_in_words, summary.resolution) == (told, resolution)
    assert msgspec.json.decode(msgspec.json.encode(summary), type=Summary) == summary


def test_versions_and_tags_are_listed_and_nothing_else(remote: Remote) -> None:
    for path in ["versions/10.json", "versions/2.json", "versions/2.sig", "versions/2.md", "versions/02.json"]:
        remote.write(f"pets/{path}", b"")
    for path in ["tags/latest.json", "tags/3.json", "tags/a-b.json", "tags/A.json"]:
        remote.write(f"pets/{path}", b"")
    remote.write("pets-2/versions/7.json", b"")

    assert list_versions(remote, "pets") == [2, 10]
    assert list_tags(remote, "pets") == ["a-b", "latest"]
    assert list_versions(remote, "birds") == []


def test_many_stores_that_are_published_at_once_have_numbers_of_their_own(remote: Remote) -> None:
    found: list[VersionRecord] = []
    digits = "0123456789abcdef"
    threads = [
        threading.Thread(target=lambda digit=digit: found.append(publish_version(remote, draft(digit), version=None)))
        for digit in digits
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(each.version for each in found) == list(range(1, len(digits) + 1))
    assert {read_version(remote, "pets", each.version).digest for each in found} == {digit * 64 for digit in digits}


def test_one_store_that_is_published_by_many_at_once_is_one_version(remote: Remote) -> None:
    found: list[VersionRecord] = []
    threads = [
        threading.Thread(target=lambda: found.append(publish_version(remote, draft("a"), version=None)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {each.version for each in found} == {1}
    assert list_versions(remote, "pets") == [1]


@pytest.mark.parametrize("version", [3, None])
@pytest.mark.parametrize("ask", [publish_version, check_version_free])
@pytest.mark.parametrize("said", [{"licence": "CC0-1.0"}, {"terms": "Ask first."}], ids=["licence", "terms"])
def test_a_version_keeps_the_licence_and_terms_that_it_was_published_under(
    remote: Remote, said: dict[str, str], ask: Callable[..., object], version: int | None
) -> None:
    published = publish_version(remote, draft("a"), version=3)

    under = {"licence": "another licence", "terms": "other terms"}[next(iter(said))]
    told = f"here under {under} than yours.* give the same --{next(iter(said))}, or push pets@4"
    with pytest.raises(InvalidOption, match=told):
        ask(remote, draft("a", **said), version=version)

    assert read_version(remote, "pets", 3) == published
    assert publish_version(remote, draft("a", **said), version=4).version == 4


def test_a_number_that_is_free_or_ones_own_passes(remote: Remote) -> None:
    publish_version(remote, draft("a"), version=3)

    check_version_free(remote, draft("b"), version=2)
    check_version_free(remote, draft("a"), version=3)
    check_version_free(remote, draft("b"), version=None)
    with pytest.raises(VersionTaken, match="push pets@4"):
        check_version_free(remote, draft("b"), version=3)


def test_a_record_that_nobody_could_read_is_not_written(remote: Remote) -> None:
    with pytest.raises(InvalidOption, match="licence"):
        publish_version(remote, draft("a", licence="x" * 5000), version=None)

    assert list_versions(remote, "pets") == []


@pytest.mark.parametrize(("record", "error"), [(b"{", NotAStore), (b"", NotAStore)])
def test_a_newest_version_that_can_not_be_read_is_told(remote: Remote, record: bytes, error: type[Exception]) -> None:
    remote.write(version_path("pets", 4), record)

    with pytest.raises(error, match=r"pets/versions/4\.json"):
        publish_version(remote, draft("a"), version=None)


def test_tags_that_many_move_at_once_end_at_the_highest_version(remote: Remote) -> None:
    threads = [
        threading.Thread(target=move_tag, args=(remote, "pets", "latest"), kwargs={"version": each, "writer": "0" * 32})
        for each in [5, 3, 8, 1, 7, 2, 6, 4]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert read_tag(remote, "pets", "latest").version == 8


def test_a_tag_that_stands_there_already_is_not_written(remote: Remote, folder: str) -> None:
    first = move_tag(remote, "pets", "stable", version=2, writer="a" * 32)

    assert move_tag(remote, "pets", "stable", version=2, writer="b" * 32) == first


def test_a_tag_of_another_store_is_told(remote: Remote) -> None:
    move_tag(remote, "birds", "latest", version=2, writer="a" * 32)
    remote.copy(tag_path("birds", "latest"), tag_path("pets", "latest"))

    with pytest.raises(DamagedStore, match="is a tag of birds@latest"):
        read_tag(remote, "pets", "latest")


class AlwaysLate(FolderBackend):
    """Somebody else has always just replaced the object."""

    def replace(self, path: str, data: bytes, *, tag: str) -> bool:
        return False


def test_a_tag_that_others_move_all_the_time_is_given_up(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "GIVE_UP_S", 0.1)
    remote = Remote(folder, AlwaysLate(Path(folder)))
    move_tag(remote, "pets", "latest", version=1, writer="a" * 32)

    with pytest.raises(RemoteFailed, match="Run the same command again"):
        move_tag(remote, "pets", "latest", version=2, writer="a" * 32)

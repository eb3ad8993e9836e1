from pathlib import Path

import pytest

from softlab.card.render import CARD_NAME
from softlab.errors import AccessDenied, InvalidOption, NotAStore, VersionTaken
from softlab.sharing.publish.metadata import MAX_CARD_BYTES
from softlab.sharing.publish.push import PushOptions, push
from softlab.store.published import read_version
from softlab.store.reader import open_store
from tests.servers.s3 import READER_KEY, READER_SECRET
from tests.sharing.publishing import (
    OPTIONS,
    assert_is_readable,
    catalogued,
    digest_of_store,
    latest,
    publish,
    published,
    remote_of,
    small_store,
    tree_of,
)


def test_a_pushed_store_is_read_under_its_name_and_version(store: Path, root: str) -> None:
    pushed = publish(store, f"{root}/pets")

    found = open_store(f"{root}/pets@1")
    num_files = len(found.manifest.files)
    assert (pushed.address, pushed.version, pushed.digest) == (f"{root}/pets@1", 1, digest_of_store(store))
    assert (pushed.files_uploaded, pushed.files_copied, pushed.files_skipped) == (num_files, 0, 0)
    assert pushed.bytes_uploaded == sum(file.bytes for file in found.manifest.files)
    assert found.read([6, 0]).logits_BK.equal(open_store(store).read([6, 0]).logits_BK)
    assert_is_readable(root, 1)
    assert open_store(f"{root}/pets@latest").digest == pushed.digest


def test_a_version_says_its_terms_and_what_its_store_is(store: Path, folder: str) -> None:
    publish(store, f"{folder}/pets")

    record = read_version(remote_of(folder), "pets", 1)
    manifest = open_store(store).manifest
    assert (record.licence, record.terms) == ("CC-BY-4.0", "its outputs are free")
    assert record.manifest_bytes == (store / "manifest.json").stat().st_size
    assert record.summary.keys_fingerprint == manifest.source.keys_fingerprint
    assert (record.summary.k, record.summary.num_files) == (3, len(manifest.files))


def test_the_same_command_again_uploads_nothing_and_is_the_same_version(store: Path, root: str) -> None:
    first = publish(store, f"{root}/pets")

    again = publish(store, f"{root}/pets")

    assert (again.version, again.files_uploaded, again.bytes_uploaded) == (1, 0, 0)
    assert again.files_skipped == first.files_uploaded
    assert catalogued(root) == published(root) == {1: first.digest}


def test_another_store_is_the_next_version_and_the_latest(store: Path, other: Path, root: str) -> None:
    publish(store, f"{root}/pets")

    pushed = publish(other, f"{root}/pets")

    assert pushed.version == latest(root) == 2
    assert catalogued(root) == published(root) == {1: digest_of_store(store), 2: digest_of_store(other)}


def test_the_next_version_is_one_above_the_highest(store: Path, other: Path, folder: str) -> None:
    publish(store, f"{folder}/pets@7")

    assert publish(other, f"{folder}/pets").version == 8


def test_a_store_that_was_replaced_can_be_pushed_again_as_the_newest(store: Path, other: Path, folder: str) -> None:
    for each in [store, other]:
        publish(each, f"{folder}/pets")

    pushed = publish(store, f"{folder}/pets")

    assert (pushed.version, pushed.files_uploaded) == (3, 0)
    assert published(folder)[1] == published(folder)[3]


def test_a_version_that_another_store_has_is_refused_before_anything_is_uploaded(
    store: Path, other: Path, root: str
) -> None:
    first = publish(store, f"{root}/pets@3")

    with pytest.raises(VersionTaken) as refused:
        publish(other, f"{root}/pets@3")

    record = read_version(remote_of(root), "pets", 3)
    for text in [record.published, first.digest[:12], digest_of_store(other)[:12], "push pets@4"]:
        assert text in str(refused.value)
    assert record.writer[:12] not in str(refused.value)
    assert tree_of(root, digest_of_store(other)) == []
    assert published(root) == {3: first.digest}
    assert_is_readable(root, 3)


def test_latest_never_moves_backwards_and_other_tags_do(store: Path, other: Path, folder: str) -> None:
    tagged = PushOptions(licence="MIT", terms="", tags=("latest", "stable"))
    publish(store, f"{folder}/pets@5", options=tagged)

    publish(other, f"{folder}/pets@2", options=tagged)

    assert latest(folder) == 5
    assert open_store(f"{folder}/pets@stable").digest == digest_of_store(other)


def test_a_published_store_is_pushed_on_to_another_place(store: Path, folder: str, bucket: str) -> None:
    publish(store, f"{bucket}/pets")

    pushed = push(f"{bucket}/pets@1", f"{folder}/cats", options=OPTIONS)

    assert pushed.digest == digest_of_store(store)
    assert_is_readable(folder, 1, name="cats")


def test_a_changed_card_is_published_with_the_next_push(store: Path, folder: str) -> None:
    publish(store, f"{folder}/pets")
    (Path(folder) / "pets/versions/1.md").unlink()

    publish(store, f"{folder}/pets")

    assert (Path(folder) / "pets/versions/1.md").is_file()


@pytest.mark.parametrize(
    ("differs", "licence", "terms"),
    [("licence", "CC0-1.0", OPTIONS.terms), ("terms", OPTIONS.licence, ""), ("licence", "CC0-1.0", "")],
)
def test_what_is_published_is_not_published_again_under_other_terms(
    store: Path, folder: str, differs: str, licence: str, terms: str
) -> None:
    pushed, options = publish(store, f"{folder}/pets"), PushOptions(licence=licence, terms=terms)
    before = tree_of(folder, pushed.digest)

    with pytest.raises(InvalidOption, match=f"give the same --{differs}, or push pets@2"):
        publish(store, f"{folder}/pets", options=options)

    assert tree_of(folder, pushed.digest) == before
    assert publish(store, f"{folder}/pets@2", options=options).version == 2


def test_a_card_that_nobody_could_pull_is_refused_before_anything_is_uploaded(store: Path, folder: str) -> None:
    card, asked = store / CARD_NAME, "_Not filled in: whom to ask?_"
    written = card.read_text()
    card.write_text(written.replace(asked, "x" * (MAX_CARD_BYTES - len(written))))

    with pytest.raises(InvalidOption, match=r"at most 1,048,576 are published. Shorten its README\.md"):
        publish(store, f"{folder}/pets")

    assert not Path(folder).exists()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("my pets", "can't be published under"),
        ("..", "can't be published under"),
        ("a..b", "can't be published under"),
        ("Pets", "can't be published under"),
        ("haustiëre", "can't be published under"),
        (".hidden", "can't be published under"),
        ("pets@0", "neither a number from 1 nor a tag"),
        ("pets@3 ", "neither a number from 1 nor a tag"),
        ("pets@stable", "give it as --tag"),
    ],
)
def test_a_name_or_version_that_is_none_is_refused(store: Path, folder: str, name: str, told: str) -> None:
    with pytest.raises(InvalidOption, match=told):
        publish(store, f"{folder}/{name}")

    assert not Path(folder).exists()


@pytest.mark.parametrize("place", ["https://labels.example.org/pets", "http://127.0.0.1/pets", "hf://datasets/a/pets"])
def test_a_place_that_can_only_be_read_is_refused(store: Path, place: str) -> None:
    with pytest.raises(InvalidOption, match="Push into an object store or a folder"):
        publish(store, place)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"licence": " "}, "--licence"),
        ({"terms": "x" * 5000}, "Shorten it"),
        ({"tags": ("7",)}, "the tag '7'"),
        ({"tags": ("../x",)}, "the tag"),
        ({"jobs": 0}, "--jobs"),
    ],
)
def test_options_that_can_not_be_published_are_refused(options: dict[str, object], told: str) -> None:
    with pytest.raises(InvalidOption, match=told):
        PushOptions(**({"licence": "MIT", "terms": ""} | options))  # type: ignore[arg-type]


def test_what_is_no_store_is_refused(tmp_path: Path, folder: str) -> None:
    (tmp_path / "empty").mkdir()

    with pytest.raises(NotAStore):
        publish(tmp_path / "empty", f"{folder}/pets")


def test_someone_who_may_only_read_is_told_so(store: Path, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", READER_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", READER_SECRET)

    with pytest.raises(AccessDenied, match="credentials"):
        publish(store, f"{bucket}/pets")


def test_a_catalogue_is_no_name_to_publish_under(tmp_path: Path) -> None:
    publish(small_store(tmp_path / "store"), f"{tmp_path}/pub/pets")

    with pytest.raises(InvalidOption, match=r"pub: is a catalogue\. Give a name below it: .*/pub/NAME"):
        publish(small_store(tmp_path / "other", k=4), f"{tmp_path}/pub")

    assert not (tmp_path / "catalog.json").exists()


@pytest.mark.parametrize("place", ["pets", "pets@1"])
def test_a_bare_name_is_no_place_unless_a_folder_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    store = small_store(tmp_path / "store")

    with pytest.raises(InvalidOption, match=rf"Write FOLDER/{place}, or \./{place} for this one"):
        publish(store, place)

    assert publish(store, f"./{place}").address == "./pets@1"

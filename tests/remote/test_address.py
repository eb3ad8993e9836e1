from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softlab.errors import InvalidOption
from softlab.remote.address import (
    HOST,
    NAME,
    SCHEMES,
    VERSION,
    Address,
    checked_name,
    checked_version,
    parse_address,
    parse_place,
)


@pytest.mark.parametrize(
    ("text", "root", "name", "version"),
    [
        ("s3://bucket", "s3://bucket", None, None),
        ("s3://bucket/", "s3://bucket", None, None),
        ("s3://bucket/labels///", "s3://bucket/labels", None, None),
        ("s3://bucket/labels/cifar", "s3://bucket/labels/cifar", None, None),
        ("s3://bucket/labels/cifar@3", "s3://bucket/labels", "cifar", "3"),
        ("s3://bucket/cifar@latest", "s3://bucket", "cifar", "latest"),
        ("s3://bucket/cifar@latest/", "s3://bucket", "cifar", "latest"),
        ("gs://bucket/a.b_c-d@v-2", "gs://bucket", "a.b_c-d", "v-2"),
        ("az://container/cifar@999999999", "az://container", "cifar", "999999999"),
        ("http://127.0.0.1:8000/labels", "http://127.0.0.1:8000/labels", None, None),
        ("https://example.org/~team/a b/ü", "https://example.org/~team/a b/ü", None, None),
        ("hf://datasets/team/labels@main/cifar", "hf://datasets/team/labels@main/cifar", None, None),
        ("labels", "labels", None, None),
        ("./labels/", "./labels", None, None),
        ("/", "/", None, None),
        ("../labels of ours/ü", "../labels of ours/ü", None, None),
        ("labels/cifar@3", "labels", "cifar", "3"),
        ("cifar@latest", ".", "cifar", "latest"),
        ("C:\\labels\\cifar", "C:\\labels\\cifar", None, None),
        ("team@home/labels", "team@home/labels", None, None),
    ],
)
def test_an_address_is_a_root_and_maybe_a_published_name(
    text: str, root: str, name: str | None, version: str | None
) -> None:
    assert parse_address(text) == Address(root=root, name=name, version=version)


def test_a_local_path_that_exists_is_that_path_though_there_is_an_at_in_it(tmp_path: Path) -> None:
    (tmp_path / "cifar@3").mkdir()

    assert parse_address(tmp_path / "cifar@3") == Address(root=str(tmp_path / "cifar@3"))
    assert parse_address(tmp_path / "cifar@4") == Address(root=str(tmp_path), name="cifar", version="4")


@pytest.mark.parametrize(
    ("text", "next_step"),
    [
        ("ftp://host/labels", "Known: s3, gs, az, http, https, hf."),
        ("S3://bucket/labels", "Known: s3, gs, az, http, https, hf."),
        ("s3a://bucket", "Known: s3, gs, az, http, https, hf."),
        ("s3://", "names no bucket or host. Write it as in s3://bucket/labels"),
        ("s3:///labels", "names no bucket or host. Write it as in s3://bucket/labels"),
        ("s3://buck\net/labels", "names no bucket or host. Write it as in s3://bucket/labels"),
        ("https://host:port/labels", "names no bucket or host. Write it as in s3://bucket/labels"),
        ("https://..", "names no bucket or host. Write it as in s3://bucket/labels"),
        ("s3://bucket//labels", "the part ''. Give an address of plain names"),
        ("s3://bucket/../other", "the part '..'. Give an address of plain names"),
        ("s3://bucket/./labels", "the part '.'. Give an address of plain names"),
        ("s3://bucket/a\\b", "Give an address of plain names"),
        ("s3://bucket/a%2e", "Give an address of plain names"),
        ("s3://bucket/a\nb", "Give an address of plain names"),
        ("s3://bucket/a\x00b", "Give an address of plain names"),
        ("s3://bucket/Cifar@3", "Use up to 100 lower-case letters"),
        ("s3://bucket/a..b@3", "Use up to 100 lower-case letters"),
        ("s3://bucket/@3", "Use up to 100 lower-case letters"),
        ("s3://bucket/a b@3", "Use up to 100 lower-case letters"),
        ("s3://bucket/ü@3", "Use up to 100 lower-case letters"),
        ("s3://bucket/" + "a" * 101 + "@3", "Use up to 100 lower-case letters"),
        ("s3://bucket/cifar@", "Write NAME@3, or NAME@latest"),
        ("s3://bucket/cifar@0", "Write NAME@3, or NAME@latest"),
        ("s3://bucket/cifar@03", "Write NAME@3, or NAME@latest"),
        ("s3://bucket/cifar@3@4", "Write NAME@3, or NAME@latest"),
        ("s3://bucket/cifar@Latest", "Write NAME@3, or NAME@latest"),
        ("s3://bucket/cifar@٣", "Write NAME@3, or NAME@latest"),
    ],
)
def test_what_is_no_address_is_refused_with_the_next_step(text: str, next_step: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        parse_address(text)

    assert next_step in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["s3:/bucket/labels", "s3//bucket/labels", "S3:/bucket", Path("s3://bucket")])
def test_a_url_that_lacks_a_sign_is_no_local_path(text: str | Path) -> None:
    with pytest.raises(InvalidOption, match=r"Did you mean s3://\.\.\?"):
        parse_address(text)


def test_a_mistyped_url_is_not_repeated() -> None:
    with pytest.raises(InvalidOption, match=r"Did you mean https://\.\.\?") as caught:
        parse_address("https:/user:a-secret@host/labels")

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "https:u:a-secret@host/labels",
        "s3:\\\\u:a-secret@bucket",
        "https;//u:a-secret@host/labels",
        "u:a-secret@host/labels",
        "labels/u:a-secret@host",
        "s3://bucket/u:a-secret@host//labels",
        " https:u:a-secret@host",
        "s3:a-secret",
    ],
)
@pytest.mark.parametrize("parse", [parse_address, parse_place])
def test_what_looks_like_credentials_is_refused_and_not_repeated(parse: Callable[[str], Address], text: str) -> None:
    with pytest.raises(InvalidOption, match=r"Did you mean|addresses don't hold credentials") as caught:
        parse(text)

    assert "secret" not in str(caught.value)


def test_a_folder_that_is_named_as_a_scheme_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s3:/labels").mkdir(parents=True)

    assert parse_address("s3:/labels") == Address(root="s3:/labels")
    assert parse_address("./s3:/others") == Address(root="./s3:/others")
    assert parse_address("s3/others") == Address(root="s3/others")


@pytest.mark.parametrize(
    "host", ["user:a-secret@host", "user:a-se@cret@host", ":a-secret@host", "a-secret@host", "host?sig=a@a-secret"]
)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_credentials_in_an_address_are_refused_and_not_repeated(scheme: str, host: str) -> None:
    with pytest.raises(
        InvalidOption, match=r"addresses don't hold credentials.* Give them in the environment"
    ) as caught:
        parse_address(f"{scheme}://{host}/labels")

    assert "secret" not in str(caught.value)
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize("rest", ["?sig=a-secret", "/labels?token=a-secret", "/labels#a-secret", "/?a-secret/labels"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_query_is_refused_and_not_repeated(scheme: str, rest: str) -> None:
    with pytest.raises(InvalidOption, match=r"no part behind \? or #.* Leave it out") as caught:
        parse_address(f"{scheme}://host{rest}")

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "root", "name", "version"),
    [
        ("s3://bucket/labels/cifar", "s3://bucket/labels", "cifar", None),
        ("s3://bucket/cifar/", "s3://bucket", "cifar", None),
        ("s3://bucket/cifar@3", "s3://bucket", "cifar", "3"),
        ("shared/cifar", "shared", "cifar", None),
        ("cifar", ".", "cifar", None),
    ],
)
def test_a_place_has_a_name_and_maybe_a_version(text: str, root: str, name: str, version: str | None) -> None:
    assert parse_place(text) == Address(root=root, name=name, version=version)


@pytest.mark.parametrize(
    ("text", "next_step"),
    [
        ("s3://bucket", "Write it as s3://bucket/NAME"),
        ("http://host:80", "Write it as http://host:80/NAME"),
        ("/labels", "Write it as /labels/NAME"),
        ("s3://bucket/Labels", "Use up to 100 lower-case letters"),
        (".", "Use up to 100 lower-case letters"),
        ("../..", "Use up to 100 lower-case letters"),
    ],
)
def test_a_place_without_a_name_that_may_be_published_is_refused(text: str, next_step: str) -> None:
    with pytest.raises(InvalidOption, match=next_step):
        parse_place(text)


@pytest.mark.parametrize("name", ["a", "7", "imagenet-1k.vit_b", "a" * 100])
def test_a_plain_name_is_itself(name: str) -> None:
    assert checked_name(name) == name


@pytest.mark.parametrize("version", ["1", "999999999", "latest", "v2", "a" * 32])
def test_a_number_or_a_tag_is_a_version(version: str) -> None:
    assert checked_version(version) == version


@pytest.mark.parametrize("version", ["1000000000", "-1", "1.0", "a" * 33, "a-", "-a", "3\n", "latest\n"])
def test_other_versions_are_refused(version: str) -> None:
    with pytest.raises(InvalidOption, match=r"Write NAME@3, or NAME@latest"):
        checked_version(version)


@pytest.mark.parametrize(
    ("text", "is_local", "is_read_only"),
    [
        *(("labels", True, False), ("s3://b/labels", False, False), ("gs://b", False, False), ("az://b", False, False)),
        *(("http://h/l", False, True), ("https://h/l", False, True), ("hf://datasets/t/l", False, True)),
    ],
)
def test_an_address_tells_what_kind_of_place_it_is(text: str, is_local: bool, is_read_only: bool) -> None:
    address = parse_address(text)

    assert (address.is_local, address.is_read_only) == (is_local, is_read_only)


hosts = st.from_regex(HOST, fullmatch=True)
segments = st.text(st.characters(exclude_characters='/\\?#%*"<>|@'), min_size=1, max_size=8)
names, versions = st.from_regex(NAME, fullmatch=True), st.from_regex(VERSION, fullmatch=True)


@given(
    scheme=st.sampled_from(SCHEMES),
    host=hosts,
    folders=st.lists(segments, max_size=3),
    published=st.none() | st.tuples(names, versions),
)
def test_an_address_is_read_again_from_how_it_is_shown(
    scheme: str, host: str, folders: list[str], published: tuple[str, str] | None
) -> None:
    text = "/".join([f"{scheme}://{host}", *folders, *(["@".join(published)] if published else [])])
    try:
        address = parse_address(text)
    except InvalidOption:  # a part that is refused, by the tests above
        return

    assert parse_address(str(address)) == address
    assert str(address) == text
    assert address.name == (published and published[0])


@given(st.text())
@pytest.mark.parametrize("parse", [parse_address, parse_place])
@pytest.mark.parametrize("start", ["", "s3://", "s3://bucket/"])
def test_any_text_is_an_address_or_refused_in_one_line(parse: Callable[[str], Address], start: str, text: str) -> None:
    said = ""
    try:
        address = parse(start + text)
    except InvalidOption as error:
        said = str(error)
    else:
        assert parse(str(address)) == address

    assert said.isprintable()


def test_credentials_with_a_slash_in_them_are_not_repeated_either() -> None:
    with pytest.raises(InvalidOption, match=r"names no bucket or host") as caught:
        parse_address("https://user:a-se/cret@host/labels")

    assert "cret" not in str(caught.value)
    assert "a-se" not in str(caught.value)

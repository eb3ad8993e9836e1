"""Where credentials come from; over SeaweedFS, a real S3 server."""

import sys
from pathlib import Path

import pytest

from softlab.errors import AccessDenied, InvalidOption
from softlab.remote import clients
from softlab.remote.address import parse_address
from softlab.remote.connect import connect
from softlab.remote.remote import Remote
from tests.servers.faulty import answering, running_faulty
from tests.servers.s3 import ACCESS_KEY, SECRET_KEY


@pytest.fixture
def no_credentials(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in the environment, nor of this machine or its user."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def remote(bucket: str) -> Remote:
    remote = connect(parse_address(bucket))
    remote.write("plain", b"as bytes")
    return connect(parse_address(bucket))  # which is not connected yet


def write_profile(folder: Path, name: str, settings: dict[str, str]) -> None:
    lines = [f"[{name}]", *(f"{key} = {value}" for key, value in settings.items())]
    (folder / "credentials").write_text("\n".join(lines))


@pytest.mark.usefixtures("no_credentials")
def test_those_of_a_profile_are_used(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY}
    write_profile(tmp_path, "labels", keys)
    monkeypatch.setenv("AWS_PROFILE", "labels")
    remote = connect(parse_address(bucket))

    remote.write("plain", b"as bytes")

    assert remote.read("plain", max_bytes=10) == b"as bytes"


def test_those_in_the_environment_come_before_a_profile(
    remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_profile(tmp_path, "default", {"aws_access_key_id": "nobody", "aws_secret_access_key": "nothing"})
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))

    assert remote.read("plain", max_bytes=10) == b"as bytes"


@pytest.mark.usefixtures("no_credentials")
def test_having_none_is_said_at_once(bucket: str) -> None:
    with pytest.raises(AccessDenied, match=r"no credentials were found. Log in with your cloud's own tools, or set"):
        connect(parse_address(bucket)).read("plain", max_bytes=10)


@pytest.mark.usefixtures("no_credentials")
def test_a_profile_that_is_not_there_is_named_by_its_kind_of_error(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")

    with pytest.raises(AccessDenied, match=r"\(ProfileNotFound\). Correct the profile, or log in anew"):
        connect(parse_address(bucket)).read("plain", max_bytes=10)


@pytest.mark.usefixtures("no_credentials")
def test_a_profile_whose_login_fails_is_an_error_without_what_the_login_said(bucket: str, tmp_path: Path) -> None:
    write_profile(tmp_path, "default", {"credential_process": "sh -c 'echo a-secret >&2; false'"})

    with pytest.raises(AccessDenied, match=r"\(CredentialRetrievalError\). Correct the profile") as caught:
        connect(parse_address(bucket)).read("plain", max_bytes=10)

    assert "a-secret" not in str(caught.getrepr(style="short"))


@pytest.mark.usefixtures("no_credentials")
def test_without_boto3_a_machine_that_has_no_role_has_no_credentials(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with running_faulty() as server:
        server.faults["latest/api/token"] = answering(404)
        monkeypatch.setenv("AWS_METADATA_ENDPOINT", server.url)

        with pytest.raises(AccessDenied, match=r"AWS profiles need softlab\[aws\]"):
            connect(parse_address(bucket)).read("plain", max_bytes=10)

    assert server.requests == ["PUT latest/api/token"]


@pytest.mark.usefixtures("no_credentials")
def test_a_public_bucket_is_read_without_any(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server asked here lets nobody in: that it says so shows that it was asked."""
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")

    with pytest.raises(AccessDenied, match=r"access is denied \(403, AccessDenied\)"):
        connect(parse_address(bucket)).read("plain", max_bytes=10)


def test_an_endpoint_without_encryption_must_be_allowed(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ALLOW_HTTP")

    with pytest.raises(InvalidOption, match=r"AWS_ENDPOINT_URL is an http:// address.* Set AWS_ALLOW_HTTP=true if"):
        remote.read("plain", max_bytes=10)

    monkeypatch.setenv("AWS_ALLOW_HTTP", "1")
    assert remote.read("plain", max_bytes=10) == b"as bytes"


def test_settings_that_can_not_be_read_are_an_error_without_their_values(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "a-value")

    with pytest.raises(
        InvalidOption, match=r"settings in the environment. Correct those; as a rule, set AWS_ACCESS"
    ) as caught:
        connect(parse_address(bucket)).read("plain", max_bytes=10)

    assert "a-value" not in str(caught.getrepr(style="short"))


def test_a_container_of_an_unknown_account_is_refused_with_the_setting_that_names_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)

    with pytest.raises(InvalidOption, match=r"az://labels: can't be opened.* set AZURE_STORAGE_ACCOUNT_NAME"):
        connect(parse_address("az://labels")).size("plain")


def test_large_objects_are_waited_for_longer() -> None:
    timeouts = [clients.CHANGING.for_bytes(size).timeout_s for size in (0, 1 << 20, 16 << 20, 17 << 20, 5 << 30)]

    assert timeouts == [64.0, 64.0, 64.0, 128.0, 32768.0]


def test_whoever_says_nothing_is_given_up_within_30_seconds() -> None:
    """A second turn begins within `retry_s`."""
    small = clients.READING.for_bytes(1 << 20)

    assert small.silence_s is not None
    assert max(small.retry_s, small.silence_s) + small.timeout_s < 30
    assert small == clients.READING


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("s3://bucket/labels", "AWS_SECRET_ACCESS_KEY"),
        ("az://container/labels", "AZURE_STORAGE_ACCOUNT_KEY"),
        ("gs://bucket/labels", "GOOGLE_SERVICE_ACCOUNT_PATH"),
    ],
)
def test_a_credential_with_a_line_end_is_refused_by_its_name(
    monkeypatch: pytest.MonkeyPatch, url: str, name: str
) -> None:
    monkeypatch.setenv(name, "a-secret\n")

    with pytest.raises(InvalidOption, match=rf"the environment variable {name} holds a line end") as refused:
        clients.Clients(url).reading()

    assert "a-secret" not in str(refused.value)


def test_settings_of_another_cloud_and_keys_of_many_lines_may_have_line_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE_NOTE", "two\nlines")
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", '{\n "type": "service_account"\n}')

    clients.Clients("http://127.0.0.1:9/labels").reading()
    with pytest.raises(InvalidOption, match="can't be opened") as refused:  # the key lacks all else
        clients.Clients("gs://bucket/labels").reading()

    assert "line end" not in str(refused.value)

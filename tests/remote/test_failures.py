import pytest

from softlab.errors import AccessDenied, ObjectMissing, RemoteError, RemoteFailed
from softlab.remote.failures import explain


def answer(status: str, body: str = "") -> str:
    """As obstore writes about it."""
    return (
        f"Generic S3 error: Error performing GET http://host/labels/403/401 in 1.2ms, retry_timeout: 60s - Server "
        f"returned non-2xx status code: {status}: {body}\n\nDebug source:\nGeneric {{ retry_timeout: 60s }}"
    )


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        (answer("401 Unauthorized"), AccessDenied, "credentials are not accepted (401). Check that your credentials"),
        (answer("403 Forbidden"), AccessDenied, "access is denied (403). Check that your credentials"),
        (answer("403 Forbidden", "<Code>AccessDenied</Code>"), AccessDenied, "access is denied (403, AccessDenied)"),
        (answer("403 F", "<Code>ExpiredToken</Code>"), AccessDenied, "not accepted (403, ExpiredToken)"),
        (answer("400 Bad", "<Code>InvalidToken</Code>"), AccessDenied, "not accepted (400, InvalidToken)"),
        (answer("404 Not Found", "<Code>NoSuchBucket</Code>"), ObjectMissing, "there is no such bucket. Correct"),
        (answer("500 Internal Server Error"), RemoteFailed, "the server answers 500. Try again"),
        ("DeleteObjects request failed for key c: No. (code: AccessDenied)", AccessDenied, "denied (AccessDenied)"),
        ("PUT http://169.254.169.254/latest/api/token: HTTP error", AccessDenied, "no credentials were found. Log in"),
        ("retry_timeout: 60s\nkind: Connect, dns error", RemoteFailed, "its name can't be resolved. Try again"),
        ("kind: Connect, invalid peer certificate", RemoteFailed, "its certificate is not accepted. Try again"),
        ("retry_timeout: 60s\nkind: Connect", RemoteFailed, "can't be reached. Try again"),
        ("http://host/labels/403/401: something new", RemoteFailed, "the request failed. Try again"),
    ],
)
def test_what_a_server_answers_is_told_apart(text: str, kind: type[RemoteError], said: str) -> None:
    error = explain(text, "s3://bucket/a")

    assert type(error) is kind
    assert str(error).startswith("s3://bucket/a: ")
    assert said in str(error)


@pytest.mark.parametrize("status", ["400 Bad Request", "403 Forbidden", "500 Internal Server Error"])
def test_nothing_else_that_a_server_wrote_is_repeated(status: str) -> None:
    body = "<Code>Odd!Code</Code><Message>token=a-secret</Message><StringToSign>a-secret</StringToSign>"

    error = explain(answer(status, body), "s3://bucket/a")

    assert "secret" not in str(error)
    assert "Odd" not in str(error)


@pytest.mark.parametrize(
    ("where", "setting"),
    [
        ("s3://bucket/a", "AWS_ACCESS_KEY_ID"),
        ("gs://bucket/a", "GOOGLE_APPLICATION_CREDENTIALS"),
        ("az://c/a", "AZURE_"),
    ],
)
def test_having_no_credentials_is_said_with_the_settings_of_that_cloud(where: str, setting: str) -> None:
    error = explain("GET http://metadata.google.internal/computeMetadata/v1: HTTP error", where)

    assert type(error) is AccessDenied
    assert f"no credentials were found. Log in with your cloud's own tools, or set {setting}" in str(error)


def test_a_web_page_that_is_named_like_a_place_of_credentials_is_a_page() -> None:
    error = explain("GET http://host/latest/meta-data/a: kind: Connect", "http://host/latest/meta-data/a")

    assert type(error) is RemoteFailed
    assert "can't be reached" in str(error)

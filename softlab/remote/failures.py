"""What a failed request means to a user.

Told from its status, its error code and its kind. Nothing that a server wrote is shown: some answer with what they were
sent, signature included.
"""

import re

from softlab.errors import AccessDenied, ObjectMissing, RemoteError, RemoteFailed
from softlab.remote.address import WEB

STATUS = re.compile(r"non-2xx status code: (\d{3})\b")
CODE = re.compile(r"<Code>([A-Za-z]{1,60})</Code>|\(code: ([A-Za-z]{1,60})\)")
"""In what S3, Google and Azure answer; and of one object among several that were to be deleted."""

NOT_ALLOWED = {"AccessDenied", "AllAccessDisabled", "AccountProblem"}
NOT_ACCEPTED = {
    *("ExpiredToken", "InvalidToken", "TokenRefreshRequired", "InvalidAccessKeyId", "SignatureDoesNotMatch"),
    *("RequestTimeTooSkewed", "AuthenticationFailed", "InvalidAuthenticationInfo"),
}
NO_CREDENTIALS = re.compile(r"https?://(169\.254\.|metadata\.)|/latest/api/token|/latest/meta-data")
"""The last place where credentials are looked for is the role of a machine in the cloud, asked at such addresses."""

SETTINGS = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SKIP_SIGNATURE=true for a public bucket; AWS "
    "profiles need softlab[aws]",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS, or GOOGLE_SKIP_SIGNATURE=true for a public bucket",
    "az": "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or AZURE_SKIP_SIGNATURE=true for a public "
    "container",
}
"""By scheme: what makes a place known to those who haven't logged in with its cloud's own tools."""

KINDS = {
    "BadScheme": "http:// is not allowed for it",
    "dns error": "its name can't be resolved",
    "certificate": "its certificate is not accepted",
    "kind: Connect": "can't be reached",
    "kind: Timeout": "no answer in time",
    "kind: Request": "the connection was lost",
    "kind: Interrupted": "the answer broke off",
    "MissingContentLength": "the server doesn't say how long its answer is",
    "BareRedirect": "the server says that it lies elsewhere, as for another region (AWS_REGION)",
}


def explain(text: str, where: str, *, is_missing: bool = False) -> RemoteError:
    """The error for what obstore wrote about a request."""
    code, status = _code_of(text), _status_of(text)
    shown = ", ".join(filter(None, [status, code]))
    if code in ("NoSuchBucket", "ContainerNotFound"):
        return ObjectMissing(f"{where}: there is no such bucket. Correct the address, or create the bucket.")
    if is_missing:
        return ObjectMissing(f"{where}: is missing.")
    if NO_CREDENTIALS.search(text) and where.startswith(tuple(f"{scheme}://" for scheme in SETTINGS)):
        return no_credentials(where)
    if status == "401" or code in NOT_ACCEPTED:
        return AccessDenied(f"{where}: the credentials are not accepted ({shown}). {_next_step(where)}")
    if status == "403" or code in NOT_ALLOWED:
        return AccessDenied(f"{where}: access is denied ({shown}). {_next_step(where)}")
    return RemoteFailed(f"{where}: {_reason(text, shown)}. Try again; if it stays so, check the server.")


def no_credentials(where: str) -> AccessDenied:
    settings = SETTINGS[where.partition("://")[0]]
    return AccessDenied(f"{where}: no credentials were found. Log in with your cloud's own tools, or {settings}.")


def _next_step(where: str) -> str:
    if where.startswith(WEB):
        return "Web servers are read without credentials: choose a place that allows it."
    return "Check that your credentials are the right ones, have not expired and allow this; maybe log in anew."


def _reason(text: str, shown: str) -> str:
    if shown:
        return f"the server answers {shown}"
    return next((reason for sign, reason in KINDS.items() if sign in text), "the request failed")


def _status_of(text: str) -> str | None:
    found = STATUS.search(text)
    return found and found[1]


def _code_of(text: str) -> str | None:
    found = CODE.search(text)
    return found and (found[1] or found[2])

"""Clients of object stores and web servers: how long they wait, and where they take credentials from, which is where
the clouds' own tools do: environment, profile, machine role."""

import os
import threading
from dataclasses import dataclass, replace
from datetime import timedelta
from importlib.util import find_spec
from typing import Any

from obstore import exceptions
from obstore.store import AzureStore, GCSStore, HTTPStore, S3Store

from softlab.errors import AccessDenied, InvalidOption
from softlab.remote.failures import SETTINGS, no_credentials

Client = S3Store | GCSStore | AzureStore | HTTPStore

SLOWEST_BYTES_PER_S = 256 << 10

CLIENT_OPTIONS: dict[str, Any] = {"connect_timeout": "10s", "user_agent": "softlab"}
RETRIES: dict[str, Any] = {
    "max_retries": 5,
    "backoff": {"base": 2, "init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=5)},
}
KINDS: dict[str, Any] = {"s3": S3Store, "gs": GCSStore, "az": AzureStore, "http": HTTPStore, "https": HTTPStore}
SETTINGS_OF_CLOUDS = {"s3": "AWS_", "az": "AZURE_", "gs": "GOOGLE_"}
"""What names of environment variables begin with, by scheme."""

S3_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How long a request is waited for."""

    timeout_s: float
    """For all of it, doubled until its bytes can pass at `SLOWEST_BYTES_PER_S`."""

    silence_s: float | None
    """For the first byte, and from one to the next; None for as long as all of it."""

    retry_s: float
    """From its beginning, for as long as it is sent again where it failed."""

    def for_bytes(self, num_bytes: int) -> "Patience":
        """With that of the bytes of one object."""
        timeout_s = self.timeout_s
        while timeout_s * SLOWEST_BYTES_PER_S < num_bytes:
            timeout_s *= 2
        return replace(self, timeout_s=timeout_s, retry_s=max(self.retry_s, timeout_s))


READING = Patience(timeout_s=12.0, silence_s=10.0, retry_s=13.0)
"""Two turns, so that a server that says nothing, or a byte a minute, is given up within 30 seconds."""

CHANGING = Patience(timeout_s=64.0, silence_s=None, retry_s=180.0)
"""A server says nothing while it takes what is uploaded, copies or deletes; three turns."""

_used_by: int | None = None
"""The process in which clients were opened. Their threads aren't there in its forks, which would wait for them for
ever."""


class Clients:
    """Of one place, opened when they are first asked for; several threads may ask."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._opened: dict[Patience, Client] = {}
        self._opening = threading.Lock()

    def reading(self, num_bytes: int = 0) -> Client:
        """One that doesn't give a request up while so many bytes still come."""
        return self._with(READING.for_bytes(num_bytes))

    def changing(self, num_bytes: int = 0) -> Client:
        """The same for what changes something."""
        return self._with(CHANGING.for_bytes(num_bytes))

    def _with(self, patience: Patience) -> Client:
        _refuse_forks(self._url)
        with self._opening:
            if patience not in self._opened:
                self._opened[patience] = _open(self._url, patience)
            return self._opened[patience]


def _refuse_forks(url: str) -> None:
    global _used_by
    if _used_by not in (None, os.getpid()):
        raise InvalidOption(
            f"{url}: can't be read in a fork of a process that has used object stores. Start such processes with "
            f"multiprocessing's 'spawn' or 'forkserver'."
        )
    _used_by = os.getpid()


def _refuse_line_ends(url: str) -> None:
    """A variable that was read from a file often has its line end too, at which a client's thread would panic."""
    prefix = SETTINGS_OF_CLOUDS.get(url.partition("://")[0])
    if prefix is None:
        return
    for name, value in os.environ.items():
        is_json = value.lstrip().startswith("{")  # a key file of Google's, which may have many lines
        if name.startswith(prefix) and not is_json and not value.isprintable():
            raise InvalidOption(
                f"{url}: the environment variable {name} holds a line end, or another sign that isn't printed. Set it "
                f"without, as in export {name}=$(cat FILE)."
            )


def _open(url: str, patience: Patience) -> Client:
    scheme = url.partition("://")[0]
    _refuse_line_ends(url)
    options: dict[str, Any] = {
        "client_options": CLIENT_OPTIONS | {"timeout": timedelta(seconds=patience.timeout_s)},
        "retry_config": RETRIES | {"retry_timeout": timedelta(seconds=patience.retry_s)},
    }
    if patience.silence_s is not None:
        options["client_options"]["read_timeout"] = timedelta(seconds=patience.silence_s)
    # Client options replace those that obstore would take from the environment.
    if scheme == "http" or _is_set("AWS_ALLOW_HTTP"):
        options["client_options"]["allow_http"] = True
    if scheme == "s3":
        options |= _s3_options(url)
    try:
        opened: Client = KINDS[scheme].from_url(url, **options)
    except (exceptions.BaseError, ValueError):
        raise InvalidOption(
            f"{url}: can't be opened with the settings in the environment. Correct those; as a rule, "
            f"{SETTINGS.get(scheme, 'none are needed')}."
        ) from None
    return opened


def _s3_options(url: str) -> dict[str, Any]:
    """A checksum that the server compares on every upload; and profiles, which only boto3 reads."""
    unencrypted = [name for name in S3_ENDPOINTS if os.environ.get(name, "").startswith("http://")]
    if unencrypted and not _is_set("AWS_ALLOW_HTTP"):
        raise InvalidOption(
            f"{url}: {unencrypted[0]} is an http:// address, to which everything goes unencrypted. Set "
            f"AWS_ALLOW_HTTP=true if that is meant, or use https://."
        )
    options: dict[str, Any] = {"checksum_algorithm": "SHA256"}
    has_keys = bool(os.environ.get("AWS_ACCESS_KEY_ID")) or _is_set("AWS_SKIP_SIGNATURE")
    if not has_keys and find_spec("boto3") is not None:
        options["credential_provider"] = _boto3_credentials(url)
    return options


def _boto3_credentials(url: str) -> Any:
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError
    from obstore.auth.boto3 import Boto3CredentialProvider

    try:
        session = boto3.Session()
        if session.get_credentials() is None:
            raise no_credentials(url)
        provider = Boto3CredentialProvider(session)
        provider()  # so that what is wrong is said by boto3
    except (BotoCoreError, ClientError) as error:
        raise AccessDenied(
            f"{url}: no credentials from the AWS profile or role ({type(error).__name__}). Correct the profile, or log "
            f"in anew with the AWS tools."
        ) from None
    return provider


def _is_set(name: str) -> bool:
    return os.environ.get(name, "").lower() in ("1", "true", "on", "yes", "y")

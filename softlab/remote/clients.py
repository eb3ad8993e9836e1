"""Clients of object stores and web servers: how long they wait, and where they take credentials from, which is where
the clouds' own tools do: environment, profile, machine role."""

import os
import threading
from datetime import timedelta
from importlib.util import find_spec
from typing import Any

from obstore import exceptions
from obstore.store import AzureStore, GCSStore, HTTPStore, S3Store

from softlab.errors import AccessDenied, InvalidOption
from softlab.remote.failures import SETTINGS, no_credentials

Client = S3Store | GCSStore | AzureStore | HTTPStore

TIMEOUT_S = 64.0
"""Of a request, doubled until its bytes can pass at `SLOWEST_BYTES_PER_S`."""

SLOWEST_BYTES_PER_S = 256 << 10

CLIENT_OPTIONS: dict[str, Any] = {"connect_timeout": "10s", "user_agent": "softlab"}
RETRIES: dict[str, Any] = {
    "max_retries": 5,
    "retry_timeout": timedelta(seconds=180),  # lets a request that got no answer be asked twice more
    "backoff": {"base": 2, "init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=5)},
}
KINDS: dict[str, Any] = {"s3": S3Store, "gs": GCSStore, "az": AzureStore, "http": HTTPStore, "https": HTTPStore}
SETTINGS_OF_CLOUDS = ("AWS_", "AZURE_", "GOOGLE_", "HF_")
"""What names of environment variables begin with."""

S3_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")

_used_by: int | None = None
"""The process in which clients were opened. Their threads aren't there in its forks, which would wait for them for
ever."""


class Clients:
    """Of one place, opened when they are first asked for; several threads may ask."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._opened: dict[float, Client] = {}
        self._opening = threading.Lock()

    def waiting_for(self, num_bytes: int) -> Client:
        """One that doesn't give a request up while so many bytes may still be on their way."""
        _refuse_forks(self._url)
        timeout_s = TIMEOUT_S
        while timeout_s * SLOWEST_BYTES_PER_S < num_bytes:
            timeout_s *= 2
        with self._opening:
            if timeout_s not in self._opened:
                self._opened[timeout_s] = _open(self._url, timeout_s=timeout_s)
            return self._opened[timeout_s]


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
    for name, value in os.environ.items():
        if name.startswith(SETTINGS_OF_CLOUDS) and not value.isprintable():
            raise InvalidOption(
                f"{url}: the environment variable {name} holds a line end, or another sign that isn't printed. Set it "
                f"without, as in export {name}=$(cat FILE)."
            )


def _open(url: str, *, timeout_s: float) -> Client:
    scheme = url.partition("://")[0]
    _refuse_line_ends(url)
    options: dict[str, Any] = {
        "client_options": CLIENT_OPTIONS | {"timeout": timedelta(seconds=timeout_s)},
        "retry_config": RETRIES,
    }
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

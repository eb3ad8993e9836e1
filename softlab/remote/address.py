"""Where a store or a catalogue lies: a local path or a URL, and after it maybe a published name and its version."""

import os.path
import re
from dataclasses import dataclass
from pathlib import Path

from softlab.errors import InvalidOption

SCHEMES = ("s3", "gs", "az", "http", "https", "hf")
WEB = ("http://", "https://")
"""Web servers hand out what is asked for by name: they are only read, and list nothing."""

MISTYPED = re.compile(rf"({'|'.join(SCHEMES)})(:[/\\]?|;?//)", re.ASCII | re.IGNORECASE)
"""What a URL begins with that lacks a sign, or has another."""

CREDENTIALS = re.compile(r":[^/\\@]*@")
"""As in user:password@host. No published name has a colon."""

NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,98}[a-z0-9])?", re.ASCII)
VERSION = re.compile(r"[1-9][0-9]{0,8}|[a-z](?:[a-z0-9-]{0,30}[a-z0-9])?", re.ASCII)
"""A number, or a tag such as `latest`."""

HOST = re.compile(r"[A-Za-z0-9$][A-Za-z0-9._-]*(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?", re.ASCII)
"""Or bucket."""

UNSAFE = set('\\?#%*"<>|')
"""In a URL: what some system or server reads as something else than a name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Address:
    """A folder of objects, and where one of its published stores is meant, which."""

    root: str
    """A URL without a slash at its end, or a local path."""

    name: str | None = None
    version: str | None = None
    """A number or a tag."""

    @property
    def is_local(self) -> bool:
        return "://" not in self.root

    @property
    def is_read_only(self) -> bool:
        """Web servers and hubs; the former can't be listed either."""
        return self.root.startswith((*WEB, "hf://"))

    def __str__(self) -> str:
        if self.name is None:
            return self.root
        return f"{self.root}/{self.name}" + ("" if self.version is None else f"@{self.version}")


def parse_address(text: str | Path) -> Address:
    """Of a store: `s3://bucket/labels/NAME@VERSION` for a published one, else the folder that holds its manifest.

    Raises InvalidOption for an unknown or mistyped scheme, for credentials or a query in a URL, and for parts that
    aren't plain names. A local path that exists is that path, also if there is an @ in it.
    """
    root = _checked_root(str(text))
    parent, slash, last = root.rpartition("/")
    if "@" not in last or ("://" not in root and Path(root).exists()):
        return Address(root=root)
    name, _, version = last.partition("@")
    return Address(root=parent if slash else ".", name=checked_name(name), version=checked_version(version))


def parse_place(text: str | Path) -> Address:
    """Of a place to publish at: as `parse_address`, but the version may be left out: `s3://bucket/labels/NAME`."""
    address = parse_address(text)
    if address.name is not None:
        return address
    parent, slash, last = address.root.rpartition("/")
    if slash and (parent.endswith(":/") or not parent):
        raise InvalidOption(f"{text}: names no store. Write it as {address.root}/NAME, with a name of its own.")
    return Address(root=parent if slash else ".", name=checked_name(last))


def checked_name(name: str) -> str:
    """Raises InvalidOption unless it is a plain name, the same on every system and server."""
    if NAME.fullmatch(name) and ".." not in name:
        return name
    raise InvalidOption(
        f"the name {name!r} can't be published under. Use up to 100 lower-case letters, digits, dots, hyphens and "
        f"underscores, with a letter or digit at both ends."
    )


def checked_version(version: str) -> str:
    """Raises InvalidOption unless it is a number from 1, or a tag."""
    if VERSION.fullmatch(version):
        return version
    raise InvalidOption(
        f"the version {version!r} is neither a number from 1 nor a tag. Write NAME@3, or NAME@latest; tags are up to "
        f"32 lower-case letters, digits and hyphens."
    )


def _checked_root(text: str) -> str:
    scheme, separator, rest = text.partition("://")
    if not separator:
        _check_not_mistyped(text)
        _check_no_credentials("..", text)
        return text.rstrip("/") or text
    if scheme not in SCHEMES:
        raise InvalidOption(f"{scheme!r}: not a kind of address that softlab reads. Known: {', '.join(SCHEMES)}.")
    host, _, path = rest.partition("/")
    _check_no_credentials(f"{scheme}://..", rest if "@" not in host else ":@")
    if "?" in rest or "#" in rest:
        raise InvalidOption(
            f"{_one_line(re.split('[?#]', text)[0])}: addresses have no part behind ? or #, where credentials may "
            f"stand. Leave it out."
        )
    if not HOST.fullmatch(host):  # which may begin with credentials, and is not repeated
        raise InvalidOption(f"{scheme}://..: names no bucket or host. Write it as in s3://bucket/labels.")
    segments = path.rstrip("/").split("/") if path.rstrip("/") else []
    wrong = [part for part in segments if not part.isprintable() or part in ("", ".", "..") or UNSAFE & set(part)]
    if wrong:
        raise InvalidOption(
            f"{_one_line(text)}: has the part {wrong[0]!r}. Give an address of plain names, as in s3://bucket/labels."
        )
    return "/".join([f"{scheme}://{host}", *segments])


def _check_no_credentials(shown: str, text: str) -> None:
    if CREDENTIALS.search(text) and not os.path.exists(text):
        raise InvalidOption(
            f"{shown}: addresses don't hold credentials, because addresses end up in logs. Give them in the "
            f"environment or profile of your cloud's own tools."
        )


def _check_not_mistyped(text: str) -> None:
    """Else a folder of that name would be written to; what follows may be credentials, and is not repeated."""
    mistyped = MISTYPED.match(text)
    if mistyped and not os.path.exists(text):
        raise InvalidOption(
            f"{mistyped[0]}..: neither an address nor a path that exists. Did you mean {mistyped[1].lower()}://..? "
            f"A folder of that name is ./{mistyped[0]}.."
        )


def _one_line(text: str) -> str:
    return text if text.isprintable() else repr(text)

"""Marks in the tree of a store that no version names yet: `push.json` of who writes it, `gc.json` of who removes it.

Each side puts its own mark first and looks for the other's then, so that of two that meet at least one knows. The
pusher waits; `gc` gives up. Ages are told by the dates that the server gives to its objects, not by anyone's clock.
"""

import re
import secrets
import time
from datetime import timedelta

import msgspec

from softlab.errors import InvalidOption, ObjectMissing, StoreBusy
from softlab.remote.remote import ObjectInfo, Remote
from softlab.sharing.catalogue.versions import this_moment
from softlab.store.published import LEASE_NAMES

PUSH_NAME, GC_NAME = LEASE_NAMES
PROBE = re.compile(r"push-[0-9a-f]{32}\.json")
"""Of each push its own, so that nobody else removes it."""

MAX_LEASE_BYTES = 4096

REFRESH_S = 300.0
"""A mark is written again as long as its owner is at work."""

STALE_AFTER = timedelta(hours=1)
"""Without having been written again, a mark is that of a process which was killed."""

WAIT_S, PAUSE_S = 30.0, 0.5
"""For a `gc` that is at work on the same tree."""


class PushLease:
    """Keeps `gc` from a tree while it is written."""

    def __init__(self, tree: Remote, *, writer: str) -> None:
        self._tree, self._writer = tree, writer
        self._written_at = 0.0

    def hold(self) -> dict[str, int]:
        """The bytes of all that lies in the tree, which no `gc` is at work on from here on until the mark is old or
        removed. Raises StoreBusy if one is, and stays so."""
        end = time.monotonic() + WAIT_S
        while True:
            self._write()
            found = {each.path: each for each in self._tree.list_objects()}
            if PUSH_NAME in found and not self._is_being_removed(found):
                self._remove_old_probes(found)
                return {path: each.bytes for path, each in found.items()}
            if time.monotonic() > end:
                raise StoreBusy(
                    f"{self._tree}: is being removed by `softlab gc`. Push again when it has ended; if it was killed, "
                    f"an hour after that."
                )
            time.sleep(PAUSE_S)

    def check_conditions(self) -> None:
        """Raises InvalidOption for a server that replaces what is to be created only once, as some do that speak like
        S3."""
        probe = f"push-{secrets.token_hex(16)}.json"
        try:
            self._tree.create(probe, _encode("softlab-probe", writer=self._writer))
            is_replaced = self._tree.create(probe, _encode("softlab-probe", writer=secrets.token_hex(16)))
        finally:
            self._tree.delete([probe])
        if is_replaced:
            raise InvalidOption(
                f"{self._tree}: this server replaces objects that are to be created only once, and two stores could "
                f"become one version. Publish in a folder, or at a server that honours If-None-Match."
            )

    def renew(self) -> None:
        """To be called again and again; writes only now and then."""
        if time.monotonic() - self._written_at > REFRESH_S:
            self._write()

    def release(self) -> None:
        """Once a version names the tree."""
        self._tree.delete([PUSH_NAME])

    def _write(self) -> None:
        self._tree.write(PUSH_NAME, _encode("softlab-push", writer=self._writer))
        self._written_at = time.monotonic()

    def _remove_old_probes(self, found: dict[str, ObjectInfo]) -> None:
        """Of pushes that were killed."""
        probes = [path for path in found if PROBE.fullmatch(path)]
        old = [path for path in probes if found[PUSH_NAME].modified - found[path].modified > STALE_AFTER]
        if old:
            self._tree.delete(old)

    def _is_being_removed(self, found: dict[str, ObjectInfo]) -> bool:
        lease = found.get(GC_NAME)
        if lease is None:
            return False
        if found[PUSH_NAME].modified - lease.modified > STALE_AFTER:
            self._tree.delete([GC_NAME])  # which its owner finds, before it removes anything more
        return True


class GcLease:
    """Keeps those who push from a tree while it is removed."""

    def __init__(self, tree: Remote, *, writer: str) -> None:
        self._tree, self._writer = tree, writer
        self._data = b""
        self._written_at = 0.0

    def acquire(self) -> bool:
        """Whether the tree is one's own now; not if another process puts its mark at the same moment. A mark that was
        there is that of a `gc` which was killed, as the tree was not written to for long."""
        try:
            found = self._tree.read_tagged(GC_NAME, max_bytes=MAX_LEASE_BYTES)
        except ObjectMissing:
            found = None
        return self._write(None if found is None else found.tag)

    def renew(self) -> bool:
        """Whether it is still there; someone who took this process for dead has removed it."""
        try:
            found = self._tree.read_tagged(GC_NAME, max_bytes=MAX_LEASE_BYTES)
        except ObjectMissing:
            return False
        if found.data != self._data:
            return False
        return time.monotonic() - self._written_at < REFRESH_S or self._write(found.tag)

    def release(self) -> None:
        self._tree.delete([GC_NAME])

    def _write(self, tag: str | None) -> bool:
        self._data = _encode("softlab-gc", writer=self._writer)
        self._written_at = time.monotonic()
        if tag is None:
            return self._tree.create(GC_NAME, self._data)
        return self._tree.replace(GC_NAME, self._data, tag=tag)


def _encode(format: str, *, writer: str) -> bytes:
    """Another one for each writer and moment."""
    return msgspec.json.encode({"format": format, "format_version": 1, "writer": writer, "at": this_moment()})

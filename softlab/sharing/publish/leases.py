"""Leases: two small files that keep a push and a `gc` from working on the same tree at the same time.

`push.json` is the lease of those who upload a store, `gc.json` of the one who removes it. Each side writes its own
lease first and looks for the other's afterwards. So when two meet, at least one of them sees the other: a push waits,
and a `gc` gives up. An owner renews its lease while it works; an hour after the last renewal, it counts as dead.
Ages come from the dates that the server gives to its objects, not from anyone's clock.
"""

import secrets
import time
from datetime import timedelta

import msgspec

from softlab.errors import InvalidOption, ObjectMissing, StoreBusy
from softlab.remote.conditions import honours_conditions
from softlab.remote.remote import ObjectInfo, Remote
from softlab.sharing.catalogue.versions import this_moment
from softlab.store.published import LEASE_NAMES, PROBE

PUSH_NAME, GC_NAME = LEASE_NAMES
MAX_LEASE_BYTES = 4096

RENEW_S = 300.0
"""How often a lease is written again while its owner is at work."""

STALE_AFTER = timedelta(hours=1)
"""A lease that was not renewed for so long is that of a process which was killed."""

WAIT_S, PAUSE_S = 30.0, 0.5
"""How long a push waits for a `gc` that is at work on the same tree, and how long between two looks."""


class PushLease:
    """Keeps `gc` from a tree while a store is uploaded into it. Pushes of the same store share it."""

    def __init__(self, tree: Remote, *, writer: str) -> None:
        self._tree, self._writer = tree, writer
        self._written_at = 0.0

    def hold(self) -> dict[str, int]:
        """Path to size of everything in the tree. From now on no `gc` removes any of it, while the lease is renewed.

        Raises StoreBusy if a `gc` is at work on the tree and doesn't end in time.
        """
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
        """Raises InvalidOption for a server that replaces an object that is to be created only once.

        Some servers that speak S3 do so: they ignore the header If-None-Match.
        """
        if not honours_conditions(self._tree, probe=f"push-{secrets.token_hex(16)}.json"):
            raise InvalidOption(
                f"{self._tree}: this server replaces objects that are to be created only once, and two stores could "
                f"become one version. Publish in a folder, or at a server that honours If-None-Match."
            )

    def renew(self) -> None:
        """Call this often: it writes only when `RENEW_S` have passed."""
        if time.monotonic() - self._written_at > RENEW_S:
            self._write()

    def release(self) -> None:
        """To be called once a version names the tree, which is safe from then on."""
        self._tree.delete([PUSH_NAME])

    def _write(self) -> None:
        self._tree.write(PUSH_NAME, _encode("softlab-push", writer=self._writer))
        self._written_at = time.monotonic()

    def _remove_old_probes(self, found: dict[str, ObjectInfo]) -> None:
        """Those of pushes that were killed."""
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
    """Keeps pushes from a tree while it is removed."""

    def __init__(self, tree: Remote, *, writer: str) -> None:
        self._tree, self._writer = tree, writer
        self._data = b""
        self._written_at = 0.0

    def acquire(self) -> bool:
        """Whether only this process may remove the tree now; False if another one wrote its lease at the same moment.

        A lease that is there already is taken over. Nothing was written to the tree for long, so its owner was killed.
        """
        try:
            found = self._tree.read_tagged(GC_NAME, max_bytes=MAX_LEASE_BYTES)
        except ObjectMissing:
            found = None
        return self._write(None if found is None else found.tag)

    def renew(self) -> bool:
        """False if another process took this one for dead, and removed or replaced its lease. Then stop removing."""
        try:
            found = self._tree.read_tagged(GC_NAME, max_bytes=MAX_LEASE_BYTES)
        except ObjectMissing:
            return False
        if found.data != self._data:
            return False
        return time.monotonic() - self._written_at < RENEW_S or self._write(found.tag)

    def release(self) -> None:
        self._tree.delete([GC_NAME])

    def _write(self, tag: str | None) -> bool:
        self._data = _encode("softlab-gc", writer=self._writer)
        self._written_at = time.monotonic()
        if tag is None:
            return self._tree.create(GC_NAME, self._data)
        return self._tree.replace(GC_NAME, self._data, tag=tag)


def _encode(format: str, *, writer: str) -> bytes:
    """Differs from writer to writer and from second to second, so that each knows its own."""
    return msgspec.json.encode({"format": format, "format_version": 1, "writer": writer, "at": this_moment()})

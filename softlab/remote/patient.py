"""A remote that waits for a server which is gone for a while.

A dump works for hours, and a server that is started anew, or a network that is cut, for a minute must not end it. A
server that has never answered is not waited for: its address is likely wrong.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from softlab.errors import AccessDenied, ObjectMissing, RemoteFailed
from softlab.remote.attempts import attempts
from softlab.remote.remote import Backend, ObjectInfo, Remote, Tagged

PATIENCE_S = 180.0
"""From the first failed request, beside what its own repetitions take."""

Result = TypeVar("Result")


def patient(remote: Remote) -> Remote:
    """The same folder; a request that fails is repeated."""
    return Remote(remote.root, PatientBackend(remote.backend), remote.folder)


@dataclass(slots=True)
class PatientBackend:
    """See `Backend`. Each of its requests may be made twice: `Remote.create` and `replace` read what is there then."""

    backend: Backend
    patience_s: float = PATIENCE_S
    _has_answered: bool = field(default=False, init=False)

    def read(self, path: str, *, max_bytes: int) -> Tagged:
        return self._ask(lambda: self.backend.read(path, max_bytes=max_bytes))

    def size(self, path: str) -> int | None:
        return self._ask(lambda: self.backend.size(path))

    def write(self, path: str, data: bytes) -> None:
        self._ask(lambda: self.backend.write(path, data))

    def create(self, path: str, data: bytes) -> bool:
        return self._ask(lambda: self.backend.create(path, data))

    def replace(self, path: str, data: bytes, *, tag: str) -> bool:
        return self._ask(lambda: self.backend.replace(path, data, tag=tag))

    def list_objects(self, folder: str) -> Iterable[ObjectInfo]:
        return self._ask(lambda: list(self.backend.list_objects(folder)))

    def list_folders(self, folder: str) -> list[str]:
        return self._ask(lambda: self.backend.list_folders(folder))

    def delete(self, paths: list[str]) -> None:
        self._ask(lambda: self.backend.delete(paths))

    def copy(self, source: str, target: str) -> None:
        self._ask(lambda: self.backend.copy(source, target))

    def _ask(self, request: Callable[[], Result]) -> Result:
        failure: RemoteFailed | None = None
        for _ in attempts(give_up_s=self.patience_s):
            try:
                answer = request()
            except (ObjectMissing, AccessDenied):
                self._has_answered = True
                raise
            except RemoteFailed as error:
                if not self._has_answered:
                    raise
                failure = error
            else:
                self._has_answered = True
                return answer
        self._has_answered = False  # so that it is not waited for again before it does
        assert failure is not None, "there is one attempt at least"
        raise failure

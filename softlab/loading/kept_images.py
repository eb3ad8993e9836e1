"""Decoded images that are kept on this machine for later runs, by LMDB: one memory-mapped file that many processes read
while one at a time writes.

    CACHE/images/data.mdb    BLAKE3 of (how images are decoded, library versions, content hash) -> shape, BLAKE3, pixels

A process that is killed while it writes leaves the file as it was before. Pixels that don't fit their hash are decoded
anew. Nothing is removed: a full file is read from, and written no more.
"""

# Shape letters: C channels (1 grey, 3 RGB), H height, W width.

import math
import mmap
import os
import struct
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from blake3 import blake3
from torch import Tensor
from torch.utils.data import get_worker_info

from softlab.errors import InvalidOption, SlowReads, StoreWriteFailed
from softlab.modalities.modality import Modality, decode_sample
from softlab.modalities.views import Example
from softlab.ranks import is_first_rank
from softlab.sources.source import Sample
from softlab.store.cache import CacheOptions, make_private

SHAPE = struct.Struct("<3I")
HASH_BYTES = 16
MAX_READERS = 1024
"""Processes that read at the same time."""

PAGES_BESIDE, PAGES_EACH = 32, 3
"""Of the file's own bookkeeping: what a write may need beside its images, and beside each of them."""

OFF = "`cache.images_gib = 0`"
Found = TypeVar("Found")

_opened: dict[str, Any] = {}
"""By folder, as no process may open one twice."""

_one_at_a_time = threading.RLock()


def _close_all() -> None:
    """A process that is forked must not use what its parent has opened, so that nothing is open then."""
    _one_at_a_time.acquire()
    for environment in _opened.values():
        environment.close()
    _opened.clear()


os.register_at_fork(
    before=_close_all,
    after_in_parent=lambda: _one_at_a_time.release(),  # the lock of now: a forked process has its own
    after_in_child=lambda: globals().update(_one_at_a_time=threading.RLock()),
)


@dataclass(slots=True)
class KeptImages:
    """Decoded images of one modality as it decodes; what is not there is decoded and added, while there is room."""

    options: CacheOptions
    kept_as: str
    """All that decides about the pixels of an image, beside its content."""

    _is_full: bool = field(default=False)

    @property
    def folder(self) -> Path:
        return self.options.folder / "images"

    @property
    def max_bytes(self) -> int:
        pages = math.floor(self.options.images_gib * (1 << 30)) // mmap.PAGESIZE
        return max(pages, 2 * PAGES_BESIDE) * mmap.PAGESIZE

    def get(self, content_hash: bytes) -> Tensor | None:
        """uint8 [C, H, W] as it was kept, in memory [H, W, C]. Raises StoreWriteFailed for a file that is damaged, or
        that isn't ours."""
        key = self._key(content_hash)

        def read(environment: Any) -> bytearray | None:
            with environment.begin(buffers=True) as transaction:
                value = transaction.get(key)
                return None if value is None else bytearray(value)

        with self._errors():
            value = self._with_environment(read)
        return None if value is None else _unpacked(value)

    def keep(self, images: Mapping[bytes, Tensor]) -> None:
        """Add images by their content hash, all at once; warns with SlowReads where no more fit. Raises as `get`."""
        if not images or self._is_full:
            return
        values = {self._key(content_hash): _packed(image_CHW) for content_hash, image_CHW in images.items()}
        with self._errors():
            self._is_full = not self._with_environment(lambda environment: self._write(environment, values))
        if self._is_full and is_first_rank() and _is_first_worker():
            warnings.warn(
                f"{self.folder}: the cache of decoded images is full ({self.options.images_gib:g} GiB), so that the "
                f"other images are decoded whenever they are read. Raise `cache.images_gib`, or delete this folder "
                f"where it holds images of other data.",
                SlowReads,
                stacklevel=2,
            )

    def _write(self, environment: Any, values: Mapping[bytes, bytes]) -> bool:
        """Whether all had room."""
        lmdb = _lmdb()
        try:
            with environment.begin(write=True) as transaction:
                room = self.max_bytes - _bytes_used(environment) - PAGES_BESIDE * mmap.PAGESIZE
                for key, value in values.items():
                    room -= len(value) + PAGES_EACH * mmap.PAGESIZE
                    if room < 0:
                        return False
                    transaction.put(key, value)
        except (lmdb.MapFullError, lmdb.DiskError):  # the latter of a disk without room
            return False
        return True

    def _key(self, content_hash: bytes) -> bytes:
        return blake3(f"{self.kept_as}\0".encode() + content_hash).digest()

    def _with_environment(self, use: Callable[[Any], Found]) -> Found:
        with _one_at_a_time:
            environment = self._environment()
            try:
                return use(environment)
            except _lmdb().MapResizedError:  # by a process with a larger `cache.images_gib`
                environment.set_mapsize(0)
                return use(environment)

    def _environment(self) -> Any:
        place = os.path.realpath(self.folder)
        if place not in _opened:
            make_private(self.folder, without=OFF)
            environment = _lmdb().open(
                str(self.folder), map_size=self.max_bytes, mode=0o600, metasync=False, max_readers=MAX_READERS
            )
            environment.reader_check()  # whoever was killed while it read is forgotten
            _check_length(environment, self.folder / "data.mdb")
            _opened[place] = environment
        return _opened[place]

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except _lmdb().Error as error:
            raise StoreWriteFailed(
                f"{self.folder}: isn't a cache of decoded images, or is damaged ({error}). Delete this folder, choose "
                f"another `cache.dir`, or do without it ({OFF})."
            ) from error
        except OSError as error:
            raise StoreWriteFailed(
                f"{self.folder}: the cache of decoded images can't be opened: {error.strerror or error}. Choose "
                f"another `cache.dir`, or do without it ({OFF})."
            ) from error


class NewImages:
    """Samples of a batch, decoded or found among those that are kept; what was decoded is kept with one write."""

    def __init__(self, kept: Mapping[str, KeptImages]) -> None:
        """By the modality's name."""
        self._kept = kept
        self._decoded: dict[str, dict[bytes, Tensor]] = {name: {} for name in kept}

    def decode(self, sample: Sample, modality: Modality) -> Example:
        """Raises as `decode_sample` and `KeptImages.get`."""
        kept = self._kept.get(modality.name)
        if kept is None or not any(isinstance(each, bytes) for each in sample.fields.values()):
            return decode_sample(sample, modality)
        found = kept.get(sample.content_hash)
        if found is None:
            found = self._decoded[modality.name][sample.content_hash] = decode_sample(sample, modality)
        return found

    def keep(self) -> None:
        """Raises as `KeptImages.keep`."""
        for name, images in self._decoded.items():
            self._kept[name].keep(images)


def keep_images(options: CacheOptions | None, modality: Modality) -> KeptImages | None:
    """What keeps decoded images of a modality; None where none are to be kept, and for one without images. Raises
    InvalidOption where LMDB is missing, and for images that aren't decoded before each view says what it needs."""
    if options is None or not options.images_gib:
        return None
    kept_as: str | None = getattr(modality, "kept_as", None)
    if kept_as is None:
        return None
    if not kept_as:
        raise InvalidOption(
            f"`cache.images_gib = {options.images_gib:g}`: with `input.jpeg = scaled` each view decodes what it needs, "
            f"so that there is nothing to keep. Say `input.shrink` too, before the teacher is run, or leave "
            f"`cache.images_gib` out."
        )
    _lmdb()
    return KeptImages(options, kept_as)


def _lmdb() -> Any:
    try:
        import lmdb
    except ImportError as error:
        raise InvalidOption(
            "`cache.images_gib` needs lmdb, which isn't installed. Install it: pip install 'softlab[image-cache]'"
        ) from error
    return lmdb


def _bytes_used(environment: Any) -> int:
    return int((environment.info()["last_pgno"] + 1) * environment.stat()["psize"])


def _check_length(environment: Any, file: Path) -> None:
    """Reading behind the end of a file that was cut off would end the process. Raises lmdb.CorruptedError."""
    if file.stat().st_size < _bytes_used(environment):
        environment.close()
        raise _lmdb().CorruptedError("its file is cut off")


def _packed(image_CHW: Tensor) -> bytes:
    pixels = image_CHW.permute(1, 2, 0).contiguous().numpy().tobytes()  # as decoders give them, and crops like them
    return b"".join((SHAPE.pack(*image_CHW.shape), blake3(pixels).digest(HASH_BYTES), pixels))


def _unpacked(value: bytearray) -> Tensor | None:
    """None for what doesn't fit its hash."""
    first = SHAPE.size + HASH_BYTES
    if len(value) <= first:
        return None
    (channels, height, width), pixels = SHAPE.unpack_from(value), memoryview(value)[first:]
    has_size = channels * height * width == len(pixels)
    if not has_size or blake3(pixels).digest(HASH_BYTES) != value[SHAPE.size : first]:
        return None
    return torch.frombuffer(value, dtype=torch.uint8, offset=first).reshape(height, width, channels).permute(2, 0, 1)


def _is_first_worker() -> bool:
    worker = get_worker_info()
    return worker is None or worker.id == 0

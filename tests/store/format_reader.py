"""A reader of stores that was written from softlab/store/FORMAT.md, and knows nothing of softlab.

It stands for a reader in another language: numpy, zarr, pyarrow and blake3 are all that it has.
"""

# Shape letters: N samples, R rows of a view, K entries kept, T temperatures.

import json
import math
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zarr
from blake3 import blake3
from numpy.typing import NDArray

Array = NDArray[Any]
Tree = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Soft labels of one view."""

    class_ids_RK: Array
    logits_RK: Array
    """Relative to the row's largest; -inf where the row has no such class."""

    max_logit_R: Array
    log_tail_RT: Array
    unit_R: Array | None


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """Sampled rows of one view."""

    classes: list[Array]
    weights: list[Array]
    entropy_R: Array


@dataclass(frozen=True, kw_only=True)
class Samples:
    keys: list[str]
    targets: list[int | None]
    content_hashes: list[bytes]
    numbers: list[int]
    """The index that each sample had when the teacher saw it."""

    rows_N: Array | None


class StoreReader:
    """One finished store in a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        data = (root / "manifest.json").read_bytes()
        self.manifest: Tree = json.loads(data)
        self.version = self.manifest["format_version"]
        assert self.manifest["format"] == "softlab"
        assert self.version in (1, 2, 3)
        self.digest = blake3(data).hexdigest()
        if self.version > 1:
            assert hash_of_the_rest(data) == self.manifest["self"]

    @property
    def storage(self) -> Tree:
        storage: Tree = self.manifest["storage"]
        return storage

    @property
    def num_samples(self) -> int:
        number: int = self.manifest["source"]["num_samples"]
        return number

    def outputs(self) -> list[Tree]:
        """As format 2 has them."""
        if self.version > 1:
            found: list[Tree] = self.manifest["outputs"]
            return found
        space = dict(self.manifest["label_space"])
        labels = {
            "kind": "classes",
            "name": "logits",
            "head": space.pop("head", "softmax"),
            "label_space": space,
            "selection": self.manifest["selection"],
            "coding": self.manifest["coding"],
            "units": False,
            "valid": False,
        }
        features = [{"kind": "values", "name": each["name"], "units": False} for each in self.manifest["features"]]
        return [labels, *features]

    def labels(self, output: Tree, *, view: int) -> Labels:
        """Decoded, of all samples in order."""
        arrays = self.arrays(output, view=view)
        logits_RK = decode_logits(arrays["logits"], output["coding"])
        if output.get("masked"):
            places_K = np.arange(logits_RK.shape[1])
            logits_RK = np.where(places_K >= arrays["valid"][:, None], -math.inf, logits_RK)
        elif output["valid"]:
            logits_RK = np.where(arrays["class_ids"] >= arrays["valid"][:, None], -math.inf, logits_RK)
        return Labels(
            class_ids_RK=arrays["class_ids"].astype(np.int64),
            logits_RK=logits_RK.astype(np.float32),
            max_logit_R=arrays["max_logit"].astype(np.float32),
            log_tail_RT=arrays["log_tail"].astype(np.float32),
            unit_R=arrays.get("unit"),
        )

    def sampled(self, output: Tree, *, view: int) -> Sampled:
        """Of an output whose rows are sampled, of all samples in order."""
        rows, entries = self.arrays(output, view=view), self._entries(output, view=view)
        num_head_R, num_drawn_R = rows["num_head"].astype(int), rows["num_drawn"].astype(int)
        classes, weights, at = [], [], 0
        resolution, frequent = output["selection"]["resolution"], output["coding"].get("frequent", [])
        others = [each for each in range(output["label_space"]["num_classes"]) if each not in set(frequent)]
        class_of_rank = np.array([*frequent, *others])
        gaps = self._gaps_of_rows(output, num_head_R, num_head_R + num_drawn_R, entries["gaps"].astype(np.int64))
        for row, (num_head, num_drawn, steps) in enumerate(
            zip(num_head_R, num_drawn_R, rows["tail"].astype(int), strict=True)
        ):
            own = slice(at, at := at + num_head + num_drawn)
            z_K = -float(output["coding"]["gap_step"]) * np.cumsum(gaps[row])
            tail, head = (num_drawn - steps / 64) / resolution, np.exp(z_K)
            drawn = np.full(num_drawn, tail / max(num_drawn, 1))
            weights.append(np.concatenate([(1 - tail * (num_drawn > 0)) * head / max(head.sum(), 1e-300), drawn]))
            ranks = entries["class_ids"][own].astype(np.int64)
            ranks[num_head:] = np.cumsum(ranks[num_head:])
            classes.append(class_of_rank[ranks])
        assert at == len(entries["class_ids"])
        return Sampled(classes=classes, weights=weights, entropy_R=rows["entropy"].astype(np.float32) / 16)

    def _gaps_of_rows(self, output: Tree, num_head_R: Array, counts_R: Array, gaps_E: Array) -> list[Array]:
        """Of the head of each row, 0 first."""
        if not output["coding"].get("gaps_first"):
            starts = np.cumsum(counts_R) - counts_R
            return [gaps_E[start : start + head] for start, head in zip(starts, num_head_R, strict=True)]
        found: list[Array] = []
        rows_N = self.samples().rows_N if output["units"] else np.ones(self.num_samples, dtype=np.int64)
        assert rows_N is not None
        at, row = 0, 0
        for rows in rows_N.tolist():
            place = at
            for head in num_head_R[row : row + rows].tolist():
                found.append(np.concatenate([[0], gaps_E[place : place + head - 1]]))
                place += head - 1
            at += int(counts_R[row : row + rows].sum())
            assert not gaps_E[place:at].any(), "fill"
            row += rows
        return found

    def values(self, output: Tree, *, view: int) -> Array:
        """[R, ...]"""
        arrays = self.arrays(output, view=view)
        values_R = arrays["values" if self.version > 1 else output["name"]].astype(np.float32)
        if "outliers" in arrays:
            return unrotated(values_R, arrays)
        if "scale" not in arrays:
            return values_R
        return values_R * arrays["scale"].reshape(-1, *[1] * (values_R.ndim - 1))

    def arrays(self, output: Tree, *, view: int) -> dict[str, Array]:
        """As they are stored, by short name, the rows of all samples one behind the other."""
        rows_N = self.samples().rows_N if output["units"] else np.ones(self.num_samples, dtype=np.int64)
        assert rows_N is not None
        room = self.storage["shard_units"] if output["units"] else self.storage["shard_rows"]
        return self._read(self.place(output), view, rows_N=rows_N, room=room)

    def _entries(self, output: Tree, *, view: int) -> dict[str, Array]:
        place, ones_N = self.place(output), np.ones(self.num_samples, dtype=np.int64)
        counts = self._read(f"{place}/samples", view, rows_N=ones_N, room=self.storage["shard_rows"])
        rows = self.storage["shard_units"] if output["units"] else self.storage["shard_rows"]
        room = rows * (output["selection"]["resolution"] + 1)
        return self._read(f"{place}/entries", view, rows_N=counts["entries"].astype(np.int64), room=room)

    def _read(self, place: str, view: int, *, rows_N: Array, room: int) -> dict[str, Array]:
        """The arrays directly below a place, whose samples have so many rows."""
        read = self._zarr if self.storage["format"] == "zarr" else self._parquet
        return read(place, view, rows_N=rows_N, room=room)

    def samples(self) -> Samples:
        parts = [pq.read_table(self.root / each["path"]) for each in self.samples_files()]
        if self.version == 3:
            part_rows = self.manifest["further_samples"]["part_rows"]
            assert [len(part) for part in parts[:-1]] == [part_rows] * (len(parts) - 1)
        columns = pa.concat_tables(parts).to_pydict()
        assert columns["sample"] == list(range(self.num_samples))
        return Samples(
            keys=columns["key"],
            targets=columns["target"],
            content_hashes=columns["content_hash"],
            numbers=columns.get("number", columns["sample"]),
            rows_N=np.array(columns["rows"]) if "rows" in columns else None,
        )

    def pixel_digests(self, view: int) -> dict[int, int]:
        """By sample; those that must be there, and no others."""
        files = self.manifest.get("digest_files", [])
        if not files:
            return {}
        table = pq.read_table(self.root / files[view]["path"]).to_pydict()
        views, numbers = self.manifest["views"], self.samples().numbers
        number_of_view = views["first"] + view
        expected = [n for n, number in enumerate(numbers) if (number - number_of_view) % views["digest_every"] == 0]
        assert table["sample"] == expected
        return dict(zip(table["sample"], table["pixel_digest"], strict=True))

    def files(self) -> list[Tree]:
        """All that the manifest names."""
        manifest = self.manifest
        in_shards = [file for shard in manifest["shards"] for file in shard["files"]]
        return [*self.samples_files(), *manifest["layout_files"], *manifest.get("digest_files", []), *in_shards]

    def samples_files(self) -> list[Tree]:
        further = self.manifest["further_samples"]["files"] if self.version == 3 else []
        return [self.manifest["samples_file"], *further]

    def parts(self) -> Iterator[tuple[int, range]]:
        """Number and samples of each shard of a view."""
        rows = self.storage["shard_rows"]
        for part in range(-(-self.num_samples // rows)):
            yield part, range(part * rows, min((part + 1) * rows, self.num_samples))

    def fields(self, place: str) -> list[Tree]:
        """The arrays directly below a place, in the order of the manifest."""
        return [
            each for each in self.storage["fields"] if each["name"] == place or each["name"].rpartition("/")[0] == place
        ]

    def place(self, output: Tree) -> str:
        if self.version > 1:
            return f"outputs/{output['name']}"
        return "labels" if output["kind"] == "classes" else f"features/{output['name']}"

    def _zarr(self, place: str, view: int, *, rows_N: Array, room: int) -> dict[str, Array]:
        group = zarr.open_group(self.root, mode="r")
        # Of the rows among all that there is room for.
        shards = [part * room + np.arange(rows_N[list(samples)].sum()) for part, samples in self.parts()]
        chosen = np.concatenate(shards).astype(np.int64)
        names = [field["name"] for field in self.fields(place)]
        return {name.rpartition("/")[2]: np.asarray(group[name][view])[chosen] for name in names}  # type: ignore[index]

    def _parquet(self, place: str, view: int, *, rows_N: Array, room: int) -> dict[str, Array]:
        fields = self.fields(place)
        found: dict[str, list[Array]] = {field["name"].rpartition("/")[2]: [] for field in fields}
        samples: list[int] = []
        for part, _ in self.parts():
            with pq.ParquetFile(self.root / place / f"view={view:05d}/part-{part:05d}.parquet") as file:
                table = file.read()
            samples += table["sample"].to_pylist()
            for field in fields:
                name = field["name"].rpartition("/")[2]
                column = table[name].combine_chunks()
                numbers = (column.flatten() if field["row_shape"] else column).to_numpy(zero_copy_only=False)
                found[name].append(numbers.reshape(-1, *field["row_shape"]))
        assert samples == np.repeat(np.arange(self.num_samples), rows_N).tolist()
        return {name: np.concatenate(parts) for name, parts in found.items()}


def decode_logits(stored_RK: Array, coding: Tree) -> Array:
    """z_k, float64."""
    if coding["logits"] != "uint8":
        return stored_RK.astype(np.float64)
    depths_RK: Array = np.cumsum(stored_RK, axis=1, dtype=np.int64)
    return -depths_RK * float(coding["gap_step"])


def probabilities(labels: Labels, output: Tree, temperature: float) -> tuple[Array, Array]:
    """Of the kept classes [R, K], and `tail_T` [R], at a stored temperature."""
    column = output["selection"]["temperatures"].index(temperature)
    tail_R = np.exp(labels.log_tail_RT[:, column].astype(np.float64))
    z_RK = labels.logits_RK.astype(np.float64)
    if output["head"] == "sigmoid":
        raw_RK = z_RK + labels.max_logit_R[:, None]
        return 1 / (1 + np.exp(-raw_RK / temperature)), tail_R
    weights_RK = np.exp(z_RK / temperature)
    return (1 - tail_R)[:, None] * weights_RK / weights_RK.sum(axis=1, keepdims=True), tail_R


def unrotated(values_R: Array, arrays: Mapping[str, Array]) -> Array:
    """Values in the coding int8_rotated."""
    width = values_R.shape[-1] if values_R.ndim > 1 else 1
    size = 2 ** (len(f"{width:b}") - 1)
    y = values_R.reshape(-1, width)
    if width > size:
        y[:, width - size :] = hadamard(y[:, width - size :])
        y *= rotation_signs(b"softlab rotation 2", width)
    y[:, :size] = hadamard(y[:, :size])
    y *= rotation_signs(b"softlab rotation 1", width)
    y *= arrays["scale"].reshape(-1, 1)
    ids = arrays["outlier_ids"].reshape(len(y), arrays["outlier_ids"].shape[-1])
    outliers = arrays["outliers"].reshape(ids.shape)
    for row, (places, numbers) in enumerate(zip(ids.tolist(), outliers, strict=True)):
        y[row, places] += numbers
    return y.reshape(values_R.shape)


def hadamard(x: Array) -> Array:
    x, size, h = x.copy(), x.shape[1], 1
    while h < size:
        low = [i for i in range(size) if not i & h]
        high = [i + h for i in low]
        x[:, low], x[:, high] = x[:, low] + x[:, high], x[:, low] - x[:, high]
        h *= 2
    return x * np.float32(1 / math.sqrt(size))


def rotation_signs(text: bytes, width: int) -> Array:
    data = blake3(text).digest(length=-(-width // 8))
    return np.array([1 - 2 * (data[d // 8] >> d % 8 & 1) for d in range(width)], dtype=np.float32)


# Hashes.


def file_hash(data: bytes) -> str:
    """Of a file that the manifest names."""
    return blake3(data).hexdigest()


def hash_of_the_rest(manifest: bytes) -> str:
    """What `self` must be."""
    (line,) = re.findall(rb',\n "self": "[0-9a-f]{64}"', manifest)
    return blake3(manifest.replace(line, b"")).hexdigest()


def purpose_hash(*parts: bytes) -> str:
    """H(a, b, ..)"""
    return blake3(b"".join(struct.pack("<Q", len(part)) + part for part in parts)).hexdigest()


def keys_fingerprint(keys: Iterable[str]) -> str:
    return purpose_hash(b"keys", *(key.encode() for key in keys))


def source_fingerprint(samples: Samples) -> str:
    pairs = zip(samples.keys, samples.content_hashes, strict=True)
    return purpose_hash(b"source", *(part for key, content in pairs for part in (key.encode(), content)))


def label_space_fingerprint(space: Tree) -> str:
    names = [name.encode() for name in space["class_names"] or []]
    return purpose_hash(b"label space", str(space["num_classes"]).encode(), *names)


def views_fingerprint(views: Tree) -> str:
    transforms = [{"name": each["name"], "arguments": _sorted(each["arguments"])} for each in views["transforms"]]
    text = json.dumps([views["seed"], transforms, views["mixing"]], separators=(",", ":"), ensure_ascii=False)
    return blake3(text.encode()).hexdigest()


def _sorted(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _sorted(tree[key]) for key in sorted(tree)}
    return [_sorted(each) for each in tree] if isinstance(tree, list) else tree


def example_digest(example: Array) -> int:
    """Of a decoded image as the teacher saw it: a pixel digest."""
    shape = struct.pack(f"<{example.ndim}q", *example.shape)
    return int.from_bytes(blake3(shape + np.ascontiguousarray(example).tobytes()).digest()[:8], "little")

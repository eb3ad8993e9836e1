"""What the copy of a store, or of some of its views and features, will hold: known before any file is fetched."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from softlab.card.render import CARD_NAME, render_card
from softlab.errors import InvalidOption, NotAStore
from softlab.identity import digest_of
from softlab.manifest import (
    MANIFEST_NAME,
    FileRecord,
    Manifest,
    ShardRecord,
    StorePlan,
    ValuesRecord,
    add_up_by_output,
    encode,
)
from softlab.shards import Shard
from softlab.sharing.fetch.download import Copy
from softlab.sharing.fetch.origin import Origin
from softlab.store.digest_names import digests_name
from softlab.store.known_formats import format_named


@dataclass(frozen=True, kw_only=True, slots=True)
class Content:
    """Everything that will lie in the folder of a pulled store."""

    manifest: Manifest
    manifest_bytes: bytes
    copies: Sequence[Copy]
    made: Mapping[str, bytes]
    """Path to bytes of files that the manifest names and that are made here, not copied from the whole store."""

    beside: Mapping[str, bytes]
    """Name to bytes of files that the manifest doesn't name: the card, and for a whole copy the signature."""

    @property
    def digest(self) -> str:
        return digest_of(self.manifest_bytes)


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Some of the views and features that a store has."""

    views: range
    features: tuple[str, ...]


def content_of(origin: Origin, part: Part) -> Content:
    """What a copy of a part will hold. If the part leaves nothing out, every byte is as it was published."""
    manifest = origin.manifest
    is_whole = len(part.views) == manifest.views.num_views and len(part.features) == len(manifest.values)
    return _whole(origin) if is_whole else _content_of_part(origin, part)


def _whole(origin: Origin) -> Content:
    manifest = origin.manifest
    return Content(
        manifest=manifest,
        manifest_bytes=origin.manifest_bytes,
        copies=[Copy(source=file, path=file.path) for file in manifest.files],
        made={},
        beside={CARD_NAME: render_card(manifest).encode()} | dict(origin.beside),
    )


def _content_of_part(origin: Origin, part: Part) -> Content:
    """Its shards are files of the whole store under other names. Its manifest and its card are new: a signature of the
    whole store is not one of the part, and stays behind."""
    plan = plan_part(origin.manifest, origin.digest, part)
    shards, copies = _take_shards(origin, plan)
    made = format_named(plan.storage.format).layout_files(plan)
    digests = origin.manifest.digest_files[part.views.start : part.views.stop]
    digest_copies = [Copy(source=file, path=digests_name(view)) for view, file in enumerate(digests)]
    samples = [Copy(source=file, path=file.path) for file in origin.manifest.samples_files]
    manifest = Manifest(
        **{name: getattr(plan, name) for name in StorePlan.__struct_fields__},
        source_fingerprint=origin.manifest.source_fingerprint,
        samples_file=origin.manifest.samples_file,
        further_samples=origin.manifest.further_samples,
        layout_files=tuple(FileRecord(path=p, bytes=len(data), blake3=digest_of(data)) for p, data in made.items()),
        shards=tuple(shards),
        statistics=add_up_by_output(shards),
        digest_files=tuple(copy.target for copy in digest_copies),
    )
    return Content(
        manifest=manifest,
        manifest_bytes=encode(manifest),
        copies=[*samples, *digest_copies, *copies],
        made=made,
        beside={CARD_NAME: origin.card_of_part(manifest).encode()},
    )


def plan_part(found: Manifest, digest: str, part: Part) -> StorePlan:
    """The plan of a store with some of the views, numbered from 0, and some of the features."""
    replace = msgspec.structs.replace
    outputs = tuple(each for each in found.outputs if not isinstance(each, ValuesRecord) or each.name in part.features)
    groups = {group for output in outputs for group in found.groups_of(output)}
    storage = replace(found.storage, fields=tuple(field for field in found.storage.fields if field.group in groups))
    if not any(output.units for output in outputs):
        storage = replace(storage, shard_units=None)
    return replace(
        found.plan,
        parent=digest,
        views=replace(found.views, num_views=len(part.views), first=found.views.first + part.views.start),
        outputs=outputs,
        storage=storage,
    )


def choose_features(origin: Origin, names: Sequence[str] | None) -> tuple[str, ...]:
    """All of them for None. Raises InvalidOption for one that isn't there."""
    held = tuple(output.name for output in origin.manifest.values)
    if names is None:
        return held
    for name in names:
        if name not in held:
            raise InvalidOption(
                f"{origin.name}: has no feature {name!r} (it has: {', '.join(held) or 'none'}). Correct --features, "
                f"or say --features none."
            )
    return tuple(name for name in held if name in names)


def choose_views(origin: Origin, views: range | None) -> range:
    """All of them for None. Raises InvalidOption for one that isn't there."""
    count = origin.manifest.views.num_views
    if views is None:
        return range(count)
    if views.stop > count:
        raise InvalidOption(
            f"{origin.name}: has views 0 to {count - 1}, not {views.stop - 1}. Ask for some of those with --views."
        )
    return views


def _take_shards(origin: Origin, plan: StorePlan) -> tuple[list[ShardRecord], list[Copy]]:
    """The records of the part's shards, and which files are copied for them."""
    offset = plan.views.first - origin.manifest.views.first
    shards, copies = [], []
    for shard in plan.grid:
        record, own = _take_shard(origin, plan, shard, offset=offset)
        shards.append(record)
        copies += own
    return shards, copies


def _take_shard(origin: Origin, plan: StorePlan, shard: Shard, *, offset: int) -> tuple[ShardRecord, list[Copy]]:
    whole, format = origin.manifest, format_named(plan.storage.format)
    theirs = whole.grid.shard(shard.view + offset, shard.part)
    record = whole.shards[theirs.view * whole.grid.parts_per_view + theirs.part]
    files = {file.path: file for file in record.files}
    paths = {format.path_of(field, theirs): format.path_of(field, shard) for field in plan.storage.fields}
    if paths.keys() - files.keys():
        missing = min(paths.keys() - files.keys())
        raise NotAStore(f"{origin.remote / MANIFEST_NAME}: names no file {missing}. Don't use it.")
    copies = [Copy(source=files[old], path=new) for old, new in paths.items()]
    targets = tuple(copy.target for copy in copies)
    return msgspec.structs.replace(record, view=shard.view, files=targets), copies

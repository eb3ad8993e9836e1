"""Which views a dump makes: its own, those that are added to a finished store, or those of another teacher's store. And
what was settled by a dump that was begun in the same folder."""

# Shape letters: N samples.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from softlab.errors import InvalidOption, StoreMismatch
from softlab.indices import RecipeIndex
from softlab.loading.aligned import beside_store
from softlab.manifest import MANIFEST_NAME, CodingRecord, InputRecord, StorePlan, ViewsRecord, tell_differences
from softlab.modalities.modality import InputOptions
from softlab.modalities.views import NoViews, ViewOptions, record_views
from softlab.remote.remote import Place
from softlab.sources.source import Source
from softlab.store.folder import differences_but_versions, is_left_over, is_unfinished, read_plan
from softlab.store.manifest_file import read_manifest
from softlab.store.place import files_at, place_of
from softlab.store.reader import Store, open_store
from softlab.teacher.options import DumpOptions


@dataclass(frozen=True, kw_only=True, slots=True)
class ViewsToDump:
    """The views of a store when the dump is finished."""

    record: ViewsRecord
    parent: str | None = None
    """Digest of the finished store that views are added to."""

    recipe_N: RecipeIndex | None = None
    """Of each sample, where it is not the index in the store."""

    chosen_from: int | None = None
    """Of how many samples these are some, where the recipe counts more."""

    seen_in: Store | None = None
    """Whose samples these are: another teacher's store, or the finished one that views are added to."""

    expected_hashes: Sequence[bytes] | None = None
    """Content hashes of all samples, where another teacher's store tells what they must be."""


def views_like(like: Store, options: DumpOptions, augment: ViewOptions | None) -> ViewsToDump:
    """The samples and views of another teacher's store. Raises InvalidOption where options say something about views
    too."""
    digests = options.pixel_digests != "some" or None
    given = {"[augment]": augment, "`dump.views`": options.views, "`dump.pixel_digests`": digests}
    for name, value in given.items():
        if value is not None:
            raise InvalidOption(f"{like.name}: says what the views are, as it is given as `like`. Leave {name} out.")
    manifest, samples = like.manifest, like.read_samples()
    return ViewsToDump(
        record=manifest.views,
        recipe_N=samples.recipe_N,
        chosen_from=manifest.source.chosen_from,
        seen_in=like,
        expected_hashes=samples.content_hashes,
    )


def check_seen_before(source: Source, input: InputOptions, views: ViewsToDump) -> None:
    """Raises StoreMismatch unless the source has the very samples of the store that tells them, as far as some of them
    tell, and the views of that store would be drawn the same here."""
    if views.seen_in is not None:
        data_step = "Point `source.path` at the data the teacher saw."
        views_step = "Dump with those versions, or anew and into another `out`."
        beside_store(source, views.seen_in, (input,), next_step=data_step, next_step_of_views=views_step)


def choose_views(
    out: Place, options: DumpOptions, augment: ViewOptions | None, *, like: Store | None = None
) -> ViewsToDump:
    """Raises InvalidOption for several views that would all be the same; NotAStore, UnfinishedStore where views are to
    be added to something else than a finished store, InvalidOption where to a part of one."""
    if like is not None:
        return views_like(like, options, augment)
    recipe = augment or NoViews()
    if not options.adds_views:
        return _views_in_all(out, options, recipe)
    _check_is_folder(out)
    store = open_store(out)
    _check_is_whole(store)
    if is_left_over(out) and store.manifest.parent is not None:  # added by a process that died just before its end
        num_views, parent = store.num_views, store.manifest.parent
    else:
        num_views, parent = store.num_views + options.views_given, store.digest
    return ViewsToDump(record=_views(recipe, options, num_views=num_views), parent=parent, seen_in=store)


def _views_in_all(out: Place, options: DumpOptions, recipe: ViewOptions) -> ViewsToDump:
    """So many views, of which a finished store with fewer has the first: repeated, it leads to the same store, which
    "+N" can't promise once the last trace of the first command is gone."""
    record = _views(recipe, options, num_views=options.views_given)
    if options.views_given > 1 and files_at(out).size(MANIFEST_NAME) is not None:
        store = open_store(out)
        if store.num_views < options.views_given:
            _check_is_folder(out)
            _check_is_whole(store)
            return ViewsToDump(record=record, parent=store.digest, seen_in=store)
    return ViewsToDump(record=record)


def check_addition(store: Store, plan: StorePlan) -> None:
    """Raises StoreMismatch unless the plan differs from the finished store in its number of views alone."""
    found = store.manifest
    as_it_was = msgspec.structs.replace(
        plan, views=msgspec.structs.replace(plan.views, num_views=store.num_views), parent=found.parent
    )
    changed = differences_but_versions(found, as_it_was)
    changed = [line for line in changed if not line.startswith("views.fingerprint")] or changed
    if changed:
        raise StoreMismatch(
            f"{store.name}: views can only be added by the same teacher, over the same source, with the same options: "
            f"{tell_differences(changed)}. Repeat the command that made it, with "
            f"`dump.views = {plan.views.num_views}`, or choose another `out`."
        )


def _check_is_folder(out: Place) -> None:
    """Readers of a store hold files of its layout, which only a lock lets be replaced."""
    if not isinstance(out, Path):
        raise InvalidOption(
            f"{out}: views are added to a store in a folder only. `softlab pull` it, add them there and `softlab push` "
            f"it, which copies on the server what is there; or choose another `out`."
        )


def _check_is_whole(store: Store) -> None:
    missing = "samples" if store.manifest.source.chosen_from is not None else "views"
    if missing == "samples" or store.manifest.views.first > 0:
        raise InvalidOption(
            f"{store.name}: was pulled without some of its {missing}, so no views are added to it. Add them to the "
            f"whole store, and pull again."
        )


def _views(recipe: ViewOptions, options: DumpOptions, *, num_views: int) -> ViewsRecord:
    if num_views > 1 and not recipe.is_random and options.selection != "sampled":  # each view is another draw
        raise InvalidOption(
            f"views = {options.views}: without anything random they would all be the same. Say what differs, such as "
            f"`augment.transforms = RandomHorizontalFlip()` or of texts `augment.drop = 0.1`, or keep one view."
        )
    return record_views(recipe, num_views=num_views, digest_every=options.digest_every)


@dataclass(frozen=True, kw_only=True, slots=True)
class Settled:
    """What a dump takes from the one that was begun, or is finished, in the same folder."""

    codings: Mapping[str, CodingRecord] = field(default_factory=dict)
    """By output: what is chosen by what the teacher says, is chosen once."""

    k: Mapping[str, int] = field(default_factory=dict)
    """By output: where it is chosen by what the teacher says, it is chosen once."""

    weights: str | None = None
    """The teacher's fingerprint."""

    arguments: Mapping[str, object] | None = None
    """Of the teacher; None where no dump was begun."""

    shard_units: int | None = None
    """A shard's room for units: samples need not be counted again."""

    shard_rows: int | None = None
    """So that a dump which goes on with a few samples fewer has the same shards."""

    format_version: int | None = None
    inputs: tuple[InputRecord, ...] = ()
    is_unfinished: bool = False
    """Whether it is a dump under way, and not one that is finished or has views added to it."""


def read_settled(out: str | Place) -> Settled:
    """Nothing where no dump was begun here."""
    place = place_of(out) if isinstance(out, str | Path) else out
    if is_unfinished(place):
        return replace(settled_by(read_plan(place)), is_unfinished=True)
    return settled_by(read_manifest(place)[0]) if files_at(place).size(MANIFEST_NAME) is not None else Settled()


def settled_by(plan: StorePlan) -> Settled:
    return Settled(
        codings={output.name: output.coding for output in plan.classes},
        k={output.name: output.selection.k for output in plan.classes},
        weights=plan.teacher.weights_fingerprint,
        arguments=plan.teacher.arguments,
        shard_units=plan.storage.shard_units,
        shard_rows=plan.storage.shard_rows,
        format_version=plan.format_version,
        inputs=plan.inputs,
    )

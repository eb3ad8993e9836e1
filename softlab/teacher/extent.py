"""What a dump takes over from the store that it goes on with: the number of its views, the step of its coding."""

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from softlab.errors import InvalidOption, StoreMismatch
from softlab.loading.view_check import check_views, store_replay
from softlab.manifest import MANIFEST_NAME, StorePlan, ViewsRecord
from softlab.sources.source import Source
from softlab.store.folder import differences_but_versions, is_left_over, is_unfinished, read_plan
from softlab.store.reader import Store, open_store, read_manifest
from softlab.teacher.options import DumpOptions
from softlab.views.view_recipe import ViewRecipe, record_views


@dataclass(frozen=True, kw_only=True, slots=True)
class Extent:
    """The views of a store when the dump is finished."""

    views: ViewsRecord
    parent: str | None = None
    """Digest of the finished store that views are added to."""


def settle_extent(out: Path, options: DumpOptions, augment: ViewRecipe | None) -> Extent:
    """Raises InvalidOption for several views that would all be the same; NotAStore, UnfinishedStore where views are to
    be added to something else than a finished store."""
    recipe = augment or ViewRecipe()
    if not options.adds_views:
        return Extent(views=_views(recipe, options, num_views=options.views_given))
    store = open_store(out)
    if is_left_over(out) and store.manifest.parent is not None:  # added by a process that died just before its end
        num_views, parent = store.num_views, store.manifest.parent
    else:
        num_views, parent = store.num_views + options.views_given, store.digest
    return Extent(views=_views(recipe, options, num_views=num_views), parent=parent)


def check_addition(store: Store, source: Source, plan: StorePlan) -> None:
    """Raises StoreMismatch unless the plan differs from the finished store in its number of views alone, and the views
    that are there already would be drawn the same here."""
    found = store.manifest
    as_it_was = msgspec.structs.replace(
        plan, views=msgspec.structs.replace(plan.views, num_views=store.num_views), parent=found.parent
    )
    changed = differences_but_versions(found, as_it_was)
    changed = [line for line in changed if not line.startswith("views.fingerprint")] or changed
    if changed:
        raise StoreMismatch(
            f"{store.path}: views can only be added by the same teacher, over the same source, with the same options: "
            f"{'; '.join(changed)}. Repeat the command that made it, with --views +N, or choose another --out."
        )
    numbers_N = np.arange(store.num_samples)
    check_views(
        source,
        store,
        numbers_N,
        store_replay(store, numbers_N),
        next_step="Add views with those versions, or dump anew into another --out.",
    )


def _views(recipe: ViewRecipe, options: DumpOptions, *, num_views: int) -> ViewsRecord:
    if num_views > 1 and not recipe.is_random:
        raise InvalidOption(
            f"views = {options.views}: without anything random they would all be the same. Say what differs, such as "
            f"--augment-transforms 'RandomHorizontalFlip()', or keep one view."
        )
    return record_views(recipe, num_views=num_views, digest_every=options.digest_every)


def settled_gap_step(out: Path) -> float | None:
    """That of the dump which was begun or finished here, if its coding has one."""
    if is_unfinished(out):
        return read_plan(out).coding.gap_step
    return read_manifest(out)[0].coding.gap_step if (out / MANIFEST_NAME).is_file() else None

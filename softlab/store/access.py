"""Who may write a store: one process alone, several together, or the one that finishes it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

from softlab.errors import StoreBusy, StoreError, StoreExists, StoreMismatch, UnfinishedStore
from softlab.indices import RecipeIndex
from softlab.manifest import MANIFEST_NAME, StorePlan, differences, tell_differences
from softlab.remote.remote import Place
from softlab.store.attempts import find_failed, tell_set_aside
from softlab.store.files import write_files
from softlab.store.folder import (
    LOCK_NAME,
    PLAN_NAME,
    as_stored,
    check_vacant,
    count_finished_shards,
    is_adding_views,
    is_left_over,
    is_unfinished,
    read_plan,
    remove_finished_commits,
)
from softlab.store.known_samples import KnownSamples, are_vouched_for, begun_files
from softlab.store.manifest_file import read_manifest_bytes
from softlab.store.place import files_at
from softlab.store.revision import FindStaying, Revision, revise
from softlab.store.samples import SampleTable
from softlab.store.shard_numbers import tell_numbers
from softlab.store.writer import StoreWriter


@contextmanager
def writing(
    root: Place,
    plan: StorePlan,
    *,
    lets_others_join: bool = False,
    recipe_N: RecipeIndex | None = None,
    expected: Callable[[], SampleTable] | None = None,
    find_staying: FindStaying | None = None,
) -> Iterator[StoreWriter]:
    """Start a store, or go on with one that was interrupted; alone, or with those who are let in by `joining`. With
    `find_staying` one that was begun differently is gone on with too, where something of it can stay.

    Raises StoreExists for a folder that holds something else or a finished store, and where another process finished it
    meanwhile as nothing is locked; StoreBusy while another process writes it, StoreMismatch if the interrupted dump was
    of another plan.
    """
    check_vacant(root, plan)
    with files_at(root).hold(LOCK_NAME) as let_others_share, _finish_told(root):
        try:
            settle_plan(root, plan, expected=expected, find_staying=find_staying, hold=nullcontext)
            writer = StoreWriter(root, plan, recipe_N=recipe_N)
            writer.sweep()
            if lets_others_join:
                let_others_share()
            yield writer
        finally:  # also if another process finished it just before the lock was ours, which made its folder anew
            remove_finished_commits(root)


@contextmanager
def joining(
    root: Place, plan: StorePlan, *, recipe_N: RecipeIndex | None = None, part: int | None = None
) -> Iterator[StoreWriter]:
    """Write shards of a store that another process has started and will finish. It stays busy until all who joined have
    ended, so that no other dump begins while one of them still writes. With `part` only the shards of that part of each
    view. Raises StoreBusy if that process lets none in, StoreMismatch where the store is of another plan by now.
    """
    with files_at(root).join(LOCK_NAME), _finish_told(root):
        if files_at(root).has(PLAN_NAME):
            _check_same(root, _changed(root, plan))
        yield StoreWriter(root, plan, recipe_N=recipe_N, part=part)


@contextmanager
def _finish_told(root: Place) -> Iterator[None]:
    """Where nothing is locked, another process may finish the store and remove what this one needs for its shards."""
    try:
        yield
    except (StoreExists, StoreBusy):
        raise
    except StoreError as error:
        if files_at(root).locks or not files_at(root).has(MANIFEST_NAME):
            raise
        raise StoreExists(
            f"{root}: was finished by another process meanwhile. The same command finds it so, and has nothing to do."
        ) from error


@contextmanager
def finishing(root: Place) -> Iterator[StoreWriter | None]:
    """Hold a dump whose shards are all written, to finish it; None where it is finished already, also by a process that
    did so meanwhile, and that is waited for.

    Raises UnfinishedStore where shards are missing, NotAStore where no dump was begun.
    """
    if not files_at(root).has(PLAN_NAME):
        read_manifest_bytes(root)  # raises NotAStore where there is none
        yield None
        return
    if not is_left_over(root):
        _check_complete(root)
    with files_at(root).wait_for(LOCK_NAME):
        try:
            yield _complete_writer(root)
        finally:
            remove_finished_commits(root)


def _check_complete(root: Place) -> None:
    """Before the store is held, as those who still write it may have hours to go."""
    try:
        plan = read_plan(root)
        if count_finished_shards(root) < plan.grid.num_shards:  # else the records are read once it is held
            _check_none_missing(StoreWriter(root, plan))
    except StoreError:
        if is_unfinished(root) or is_adding_views(root):
            raise  # else another process has finished it this moment


def _complete_writer(root: Place) -> StoreWriter | None:
    if is_left_over(root) or not files_at(root).has(PLAN_NAME):
        return None
    try:
        writer = StoreWriter(root, read_plan(root), recipe_N=_expected_recipe(root))
        _check_none_missing(writer)
        writer.sweep()
    except StoreError:
        if files_at(root).locks or not files_at(root).has(MANIFEST_NAME):
            raise
        return None  # another process has finished it this moment
    return writer


def _check_none_missing(writer: StoreWriter) -> None:
    missing, count = writer.missing, len(writer.own_shards)
    if missing:
        aside = tell_set_aside(find_failed(writer))
        raise UnfinishedStore(
            f"{writer.root}: {len(missing):,} of {count:,} shards are missing: {tell_numbers(missing)}. "
            f"{aside + '. ' if aside else ''}"
            f"Run those (`softlab dump-teacher --shards`, or `run_shards`), then finalize again."
        )


def _expected_recipe(root: Place) -> RecipeIndex | None:
    plan = read_plan(root)
    if plan.source.chosen_from is None:
        return None
    return KnownSamples(root, plan, parent=None).recipe_N()


def settle_plan(
    root: Place,
    plan: StorePlan,
    *,
    expected: Callable[[], SampleTable] | None = None,
    find_staying: FindStaying | None = None,
    hold: Callable[[], AbstractContextManager[object]] | None = None,
) -> None:
    """Write down what is going to be written here, before anything of it is; raises as `writing`. `expected` is the
    table of samples as far as it is known, with content hashes of zeros where they aren't. `hold` is how the store is
    held while another plan is replaced, if it isn't held already; where it can't be, none is replaced."""
    with _finish_told(root):
        _settle(root, plan, expected=expected, find_staying=find_staying, hold=hold)


def _settle(
    root: Place,
    plan: StorePlan,
    *,
    expected: Callable[[], SampleTable] | None,
    find_staying: FindStaying | None,
    hold: Callable[[], AbstractContextManager[object]] | None,
) -> None:
    check_vacant(root, plan)
    files = files_at(root)
    if not files.has(PLAN_NAME) and files.begin(begun_files(plan, None if expected is None else expected())):
        return
    if find_staying is None or not files.locks or not _changed(root, plan):
        _check_same(root, _changed(root, plan))
        if expected is not None and not are_vouched_for(root):
            write_files(root, begun_files(read_plan(root), expected()))
        return
    with files.hold(LOCK_NAME) if hold is None else hold():
        changed, begun = _changed(root, plan), read_plan(root)
        stays = find_staying(begun)
        if stays is None:
            _check_same(root, changed)
        elif changed:
            revision = Revision(begun=begun, plan=plan, changed=changed, stays=stays)
            revise(root, revision, expected=None if expected is None else expected())


def _changed(root: Place, plan: StorePlan) -> list[str]:
    return differences(as_stored(read_plan(root)), as_stored(plan))


def _check_same(root: Place, changed: Sequence[str]) -> None:
    if changed:
        is_of_versions = any(line.startswith(("libraries.", "softlab_version")) for line in changed)
        versions = " with the versions that it was begun with" if is_of_versions else ""
        raise StoreMismatch(
            f"{root}: holds an unfinished dump that was begun differently: {tell_differences(changed)}. "
            f"Repeat the first command{versions} to go on with it, or choose another `out`."
        )

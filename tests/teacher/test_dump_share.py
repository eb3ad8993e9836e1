"""Processes that share a dump without knowing of each other, against the same dump in one."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from torch import nn

from softlab.errors import InvalidOption, StoreExists, StoreMismatch
from softlab.manifest import begin, encode
from softlab.sources.source import Source
from softlab.store.access import settle_plan
from softlab.store.folder import PLAN_NAME, read_begun
from softlab.store.reader import open_store
from softlab.teacher.dump_share import dump_share
from softlab.teacher.job import finalize
from softlab.teacher.options import DumpOptions
from softlab.teacher.shares import Share
from tests.forks import FORKS
from tests.ranks import running
from tests.store.building import contents
from tests.teacher.augmenting import AUGMENT, dump_views
from tests.teacher.dumping import Pictures, dump, make_options, make_teacher, stop_at


def share(
    out: Path,
    text: str,
    options: DumpOptions | None = None,
    *,
    teacher: nn.Module | None = None,
    source: Source | None = None,
    **more: Any,
) -> None:
    """Of four shards a view."""
    torch.set_num_threads(1)
    module = make_teacher() if teacher is None else teacher
    dump_share(module, source or Pictures(), out, Share.parse(text), options or make_options(), **more)


@contextmanager
def calling(*calls: tuple[Any, ...]) -> Iterator[list[BaseProcess]]:
    """A process for each call, a function and its arguments; those that are left at the end are killed."""
    processes: list[BaseProcess] = [FORKS.Process(target=call[0], args=call[1:]) for call in calls]
    with running(processes):
        yield processes


def codes(processes: list[BaseProcess]) -> list[int | None]:
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def test_shares_in_any_order_make_the_store_of_one_process(tmp_path: Path) -> None:
    options = make_options(views=2)
    dump(tmp_path / "alone", options, augment=AUGMENT)

    for text in ("2/3", "7", "0/3", "1/3", "0-7"):
        share(tmp_path / "store", text, options, augment=AUGMENT)
    finalize(tmp_path / "store")
    share(tmp_path / "store", "0/3", options, augment=AUGMENT)

    assert contents(tmp_path / "store") == contents(tmp_path / "alone")


@pytest.mark.process
def test_processes_that_begin_at_the_same_moment_settle_one_plan(tmp_path: Path) -> None:
    """Each would choose the rows of a shard by its own pace."""
    with calling(*[(share_at_once, tmp_path / "store", f"{index}/4", index) for index in range(4)]) as processes:
        assert codes(processes) == [0, 0, 0, 0]
    manifest = finalize(tmp_path / "store")

    dump(tmp_path / "alone", make_options(shard_rows=manifest.storage.shard_rows))
    assert open_store(tmp_path / "store").digest == open_store(tmp_path / "alone").digest


def share_at_once(out: Path, text: str, index: int) -> None:
    """With a pace of its own, and so that all have planned before any writes its plan down."""

    def wait_for_all(*arguments: Any, **more: Any) -> None:
        out.with_name(f"planned-{index}").touch()
        while len(list(out.parent.glob("planned-*"))) < 4:
            time.sleep(0.005)
        settle_plan(*arguments, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("softlab.teacher.dump_share.settle_plan", wait_for_all)
        patch.setattr("softlab.teacher.planning.Pace.most_rows", lambda *_, **__: 8 << (index % 2))
        share(out, text, make_options(shard_rows=None))


@pytest.mark.process
def test_two_that_finish_a_store_at_once_give_the_same_manifest(tmp_path: Path) -> None:
    share(tmp_path / "store", "0/1")
    dump(tmp_path / "alone")

    with calling(*[(finalize, tmp_path / "store")] * 3) as processes:
        assert codes(processes) == [0, 0, 0]

    assert contents(tmp_path / "store") == contents(tmp_path / "alone")


# Processes that would dump something else.


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"teacher": make_teacher(seed=1)}, "the hash of the weights (`teacher.weights`) was"),
        ({"source": Pictures(count=49)}, "the number of samples was 50, is now 49"),
        ({"options": make_options(k=6)}, "`dump.k` was 5, is now 6"),
        ({"options": make_options(shard_rows=8)}, "`dump.shard_rows` was 16, is now 8"),
    ],
    ids=["weights", "source", "option", "shards"],
)
def test_a_process_with_something_else_is_refused_by_what_differs(
    tmp_path: Path, other: dict[str, Any], told: str
) -> None:
    share(tmp_path / "store", "0")
    before = contents(tmp_path / "store")

    with pytest.raises(StoreMismatch, match=f"{re.escape(told)}.*Repeat the first command to go on with it"):
        share(tmp_path / "store", "1", **other)

    assert contents(tmp_path / "store") == before


def test_a_process_with_another_torch_than_the_plans_is_refused(tmp_path: Path) -> None:
    share(tmp_path / "store", "0")
    begun = read_begun(tmp_path / "store")
    plan = msgspec.structs.replace(begun.plan, libraries={**begun.plan.libraries, "torch": "1.0.0"})
    (tmp_path / "store" / PLAN_NAME).write_bytes(encode(begin(plan, samples_file=begun.samples_file)))

    with pytest.raises(StoreMismatch, match=r"version of torch was '1.0.0'.*with the versions that it was begun with"):
        share(tmp_path / "store", "1")


def test_a_store_that_was_finished_with_other_options_is_no_place_for_a_share(tmp_path: Path) -> None:
    dump(tmp_path / "store")

    with pytest.raises(StoreExists, match=re.escape("`dump.k` was 5, is now 6")):
        share(tmp_path / "store", "1", make_options(k=6))


def test_a_share_is_of_one_device(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match=r"a share is of one process on one device"):
        share(tmp_path / "store", "0/2", make_options(devices=2))


def test_views_are_added_by_shares_if_all_are_counted(tmp_path: Path) -> None:
    """Whoever comes late finds the store finished."""
    dump_views(tmp_path / "alone", 2)
    dump_views(tmp_path / "store", 1)
    options = make_options(views=2, pixel_digests="all")

    for text in ("1/2", "0/2"):
        share(tmp_path / "store", text, options, augment=AUGMENT)
    finalize(tmp_path / "store")
    share(tmp_path / "store", "0/2", options, augment=AUGMENT)

    assert open_store(tmp_path / "store").num_views == 2
    assert (
        open_store(tmp_path / "store")
        .read([7], view=1)
        .class_ids_BK.equal(open_store(tmp_path / "alone").read([7], view=1).class_ids_BK)
    )
    with pytest.raises(InvalidOption, match=r"Say how many there are to be in all, as in `dump.views = 3`"):
        share(tmp_path / "store", "0/2", make_options(views="+1", pixel_digests="all"), augment=AUGMENT)


def test_ctrl_c_keeps_what_was_computed_and_says_how_to_go_on(tmp_path: Path) -> None:
    dump(tmp_path / "alone")

    with pytest.raises(KeyboardInterrupt, match=r"stopped with 2 of 4 shards finished. Run the same command again"):
        share(tmp_path / "store", "0-3", on_progress=stop_at(33))
    share(tmp_path / "store", "0-3")
    finalize(tmp_path / "store")

    assert contents(tmp_path / "store") == contents(tmp_path / "alone")

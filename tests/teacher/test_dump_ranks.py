"""A dump that several processes share, against the same dump in one."""

import json
import os
import random
import time
import warnings
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from softlab.errors import DamagedShards, GoesOnDifferently, InvalidOption, SoftlabError, StoreBusy
from softlab.loading.order import spread_out
from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.ranks import PART_CHARACTERS, Ranks, join_ranks, rank
from softlab.shards import Shard
from softlab.sources.source import Sample
from softlab.store.folder import count_finished_shards
from softlab.store.format import FormatName
from softlab.store.reader import open_store
from softlab.store.verify import verify_store
from softlab.teacher.dump_progress import DumpProgress
from softlab.teacher.example import CHECKED_SAMPLES
from softlab.teacher.options import DumpOptions
from softlab.teacher.shared_dump import own_shards
from tests.forks import FORKS
from tests.ranks import started, wait_for_end
from tests.store.building import FORMATS, contents, flip_byte
from tests.teacher.dumping import Pictures, dump, make_options, make_teacher, stop_at

pytestmark = pytest.mark.process

FLIPPED = ViewRecipe(transforms=("RandomHorizontalFlip()", "RandomCrop((4, 6), padding=1)"))


class Watched(Pictures):
    """Knows which pictures were read."""

    seen: list[int]

    def read(self, index: int) -> Sample:
        self.seen.append(index)
        return super().read(index)


def share(out: Path, options: DumpOptions, augment: ViewRecipe | None = None) -> None:
    """One process's part; what it saw and returned is left in OUT-RANK.json."""
    source, steps = Watched(), list[DumpProgress]()
    object.__setattr__(source, "seen", [])
    summary = dump(out, options, source=source, augment=augment, on_progress=steps.append)
    left = {
        "read": source.seen,
        "rows": [step.rows for step in steps],
        "totals": sorted({step.total_rows for step in steps}),
        "bytes": max((step.bytes_written for step in steps), default=0),
        "digest": summary.digest,
        "rows_computed": summary.rows_computed,
    }
    out.with_name(f"{out.name}-{rank()}.json").write_text(json.dumps(left))


def go_on(out: Path, options: DumpOptions) -> None:
    """The same, which the first process tells."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if rank() == 0 else "error", GoesOnDifferently)
        share(out, options)


def redo(out: Path, options: DumpOptions) -> None:
    """The same, where shards are damaged."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if rank() == 0 else "error", DamagedShards)
        share(out, options)


def left_by(out: Path, *, rank: int) -> dict[str, Any]:
    left: dict[str, Any] = json.loads(out.with_name(f"{out.name}-{rank}.json").read_text())
    return left


def dump_together(count: int, out: Path, options: DumpOptions, augment: ViewRecipe | None = None) -> None:
    with started(count, share, out, options, augment) as processes:
        assert wait_for_end(processes) == [0] * count


# What they write.


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("count", [2, 3, 6])
def test_several_processes_write_the_bytes_of_one(tmp_path: Path, format: FormatName, count: int) -> None:
    """With six there are more processes than shards."""
    options = make_options(format=format, coding="uint8", feature={"pooled": "relu:mean"})
    alone = dump(tmp_path / "alone", options)

    dump_together(count, tmp_path / "together", options)

    assert contents(tmp_path / "together") == contents(tmp_path / "alone")
    lefts = [left_by(tmp_path / "together", rank=rank) for rank in range(count)]
    assert {left["digest"] for left in lefts} == {alone.digest}
    assert {left["rows_computed"] for left in lefts} == {50}


def test_several_processes_go_on_in_float32_as_one_does(tmp_path: Path) -> None:
    half = make_options(autocast="bfloat16")
    for name in ("alone", "store"):
        with pytest.raises(KeyboardInterrupt):
            dump(tmp_path / name, half, on_progress=stop_at(33))
    with pytest.warns(GoesOnDifferently, match="Of 2 finished shards 2 stay in bfloat16"):
        dump(tmp_path / "alone")

    with started(2, go_on, tmp_path / "store", make_options()) as processes:
        assert wait_for_end(processes) == [0, 0]
    assert contents(tmp_path / "store") == contents(tmp_path / "alone")


def test_several_processes_compute_a_damaged_shard_anew_that_is_found_at_the_end(tmp_path: Path) -> None:
    options = make_options(format="parquet")
    dump(tmp_path / "alone", options)
    with pytest.raises(KeyboardInterrupt):
        dump(tmp_path / "store", options, on_progress=stop_at(50))
    flip_byte(tmp_path / "store/outputs/logits/view=00000/part-00001.parquet")

    with started(2, redo, tmp_path / "store", options) as processes:
        assert wait_for_end(processes) == [0, 0]

    assert contents(tmp_path / "store") == contents(tmp_path / "alone")
    lefts = [left_by(tmp_path / "store", rank=rank) for rank in (0, 1)]
    assert [left["rows_computed"] for left in lefts] == [18, 18]
    assert max(row for left in lefts for row in left["rows"]) == 50


def test_each_process_reads_the_samples_of_its_own_shards_and_progress_counts_all(tmp_path: Path) -> None:
    dump_together(2, tmp_path / "store", make_options())

    first, second = (left_by(tmp_path / "store", rank=rank) for rank in (0, 1))
    looked_at = range(50)  # for the kinds of images; of more than 128 some
    settled = spread_out(50, count=CHECKED_SAMPLES).source_B.tolist()  # tell each what its teacher's outputs are like
    assert first["read"] == [*looked_at, *settled, *range(16), *range(32, 48)]
    assert second["read"] == [*settled, *range(16, 32), 48, 49]  # what the first one has settled
    assert sorted(first["rows"] + second["rows"])[-1] == 50
    assert len(set(first["rows"] + second["rows"])) == 7  # each batch is counted once
    assert first["totals"] == second["totals"] == [50]


def test_views_are_added_by_several_processes_as_by_one(tmp_path: Path) -> None:
    two, more = make_options(views=2), make_options(views="+3")
    dump(tmp_path / "alone", two, augment=FLIPPED)
    dump(tmp_path / "alone", more, augment=FLIPPED)

    dump_together(2, tmp_path / "together", two, FLIPPED)
    dump_together(3, tmp_path / "together", more, FLIPPED)

    assert contents(tmp_path / "together") == contents(tmp_path / "alone")
    assert left_by(tmp_path / "together", rank=2)["rows_computed"] == 150
    assert verify_store(tmp_path / "together").is_intact


def test_a_finished_dump_returns_at_once_in_all_processes(tmp_path: Path) -> None:
    digest = dump(tmp_path / "store").digest
    before = contents(tmp_path / "store")

    dump_together(2, tmp_path / "store", make_options())

    for number in (0, 1):
        left = left_by(tmp_path / "store", rank=number)
        assert (left["digest"], left["rows_computed"], left["rows"]) == (digest, 0, [])
    assert contents(tmp_path / "store") == before


# Killed, and gone on with.


@pytest.mark.parametrize("format", ["zarr", pytest.param("parquet", marks=pytest.mark.slow)])
def test_a_kill_of_any_process_at_any_moment_costs_nothing_whoever_goes_on(tmp_path: Path, format: FormatName) -> None:
    """Six kills of one of one to three processes; torchrun's part, ending the others, is the test's."""
    options, chance, kills = make_options(format=format, shard_rows=2), random.Random(0), 0
    dump(tmp_path / "alone", options)
    outs = [tmp_path / "0"]

    while kills < 6:
        count = chance.randint(1, 3)
        wanted_shards = count_finished_shards(outs[-1]) + chance.randint(0, 3)
        with started(count, share, outs[-1], options) as processes:
            while count_finished_shards(outs[-1]) < wanted_shards and any(each.is_alive() for each in processes):
                time.sleep(0.001)
            time.sleep(chance.uniform(0, 0.02))
            chance.choice(processes).kill()
            codes = wait_for_end(processes)
        if codes == [0] * count:
            outs.append(tmp_path / str(len(outs)))
        else:
            kills += 1
    dump_together(2, outs[-1], options)

    for out in outs:
        assert contents(out) == contents(tmp_path / "alone")


class Held(Watched):
    """Picture 20, of the second process, can't be read for the teacher before the test allows it."""

    is_waiting: Event
    may_go_on: Event

    def read(self, index: int) -> Sample:
        if rank() == 1 and index == 20:
            self.is_waiting.set()
            assert self.may_go_on.wait(60)
        return super().read(index)


def share_held(out: Path, is_waiting: Event, may_go_on: Event) -> None:
    source = Held()
    object.__setattr__(source, "seen", [])
    object.__setattr__(source, "is_waiting", is_waiting)
    object.__setattr__(source, "may_go_on", may_go_on)
    dump(out, source=source)


def test_no_other_dump_begins_while_a_process_that_was_left_behind_still_writes(tmp_path: Path) -> None:
    is_waiting, may_go_on = FORKS.Event(), FORKS.Event()
    dump(tmp_path / "alone")

    with started(2, share_held, tmp_path / "store", is_waiting, may_go_on) as (first, second):
        assert is_waiting.wait(60)
        first.kill()
        first.join()
        with pytest.raises(StoreBusy, match="another process is writing this store"):
            dump(tmp_path / "store")
        second.kill()
        second.join()
    dump(tmp_path / "store")

    assert contents(tmp_path / "store") == contents(tmp_path / "alone")


def stop(out: Path) -> None:
    """A Ctrl-C in all processes at their first batch; what each says is left in OUT-RANK.txt."""

    def interrupt(progress: DumpProgress) -> None:
        raise KeyboardInterrupt

    try:
        dump(out, on_progress=interrupt)
    except KeyboardInterrupt as interrupt_:
        out.with_name(f"{out.name}-{rank()}.txt").write_text(str(interrupt_))


def test_of_interrupted_processes_one_tells_how_to_go_on(tmp_path: Path) -> None:
    with started(2, stop, tmp_path / "store") as processes:
        wait_for_end(processes)

    assert (tmp_path / "store-1.txt").read_text() == ""
    assert (tmp_path / "store-0.txt").read_text() == (
        f"{tmp_path / 'store'}: stopped with 0 of 4 shards finished. Run the same command again to go on."
    )


# Processes that don't fit together.


def share_own_weights(out: Path) -> None:
    try:
        dump(out, teacher=make_teacher(seed=rank()))
    except SoftlabError as error:
        out.with_name(f"{out.name}-{rank()}.txt").write_text(f"{type(error).__name__}: {error}")
        os._exit(1)


def test_a_process_with_other_weights_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with started(2, share_own_weights, tmp_path / "store") as processes:
        assert wait_for_end(processes) == [None, 1]

    refusal = (tmp_path / "store-1.txt").read_text()
    assert refusal.startswith("StoreMismatch: process 2 of 2 would dump something else than the first one: the hash")
    assert refusal.endswith("Give all of them the same options, data and weights, as with `teacher.weights`.")
    assert not (tmp_path / "store").exists()


class Sharper(nn.Module):
    """A teacher of many classes, whose logits differ more in the first process than in the others."""

    def __init__(self) -> None:
        super().__init__()
        self.teacher = make_teacher(num_classes=400)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        logits_BC: Tensor = self.teacher(images_BCHW)
        return logits_BC * (4 if rank() == 0 else 1)


def share_many_classes(out: Path) -> None:
    dump(out, make_options(k=None, coding="uint8", gap_step=None), teacher=Sharper(), source=Pictures(class_names=None))


def test_k_and_the_step_of_a_coding_are_those_of_the_first_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what its own teacher gives, the second would choose others."""
    share_many_classes(tmp_path / "first")
    monkeypatch.setenv("RANK", "1")
    share_many_classes(tmp_path / "second")

    with started(2, share_many_classes, tmp_path / "store") as processes:
        assert wait_for_end(processes) == [0, 0]

    found, first, second = (open_store(tmp_path / name).manifest.classes[0] for name in ("store", "first", "second"))
    assert (found.selection, found.coding) == (first.selection, first.coding)
    assert found.selection.k != second.selection.k
    assert found.coding != second.coding
    assert verify_store(tmp_path / "store").is_intact


def share_own_temperatures(out: Path) -> None:
    try:
        dump(out, make_options(temperature=(1.0, 2.0 + rank())))
    except SoftlabError as error:
        out.with_name(f"{out.name}-{rank()}.txt").write_text(f"{type(error).__name__}: {error}")
        os._exit(1)


def test_a_process_with_other_temperatures_is_refused(tmp_path: Path) -> None:
    with started(2, share_own_temperatures, tmp_path / "store") as processes:
        assert wait_for_end(processes) == [None, 1]

    refusal = (tmp_path / "store-1.txt").read_text()
    assert refusal.startswith("StoreMismatch: process 2 of 2 would dump something else than the first one: ")
    assert "temperature" in refusal
    assert not (tmp_path / "store").exists()


def test_a_process_that_is_told_to_use_several_devices_but_stands_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match=r"this call is one process.*`softlab dump-teacher --devices 2`"):
        dump(tmp_path / "store", make_options(devices=2))

    assert not (tmp_path / "store").exists()


# Meeting.


def meet(folder: Path) -> None:
    ranks = join_ranks("dump", torch.device("cpu"))
    long = "é" * (2 * PART_CHARACTERS + 3)
    texts = [ranks.share(text if ranks.is_first else "mine") for text in ("theirs", "", long)]
    ranks.wait()
    total = ranks.add("rows", ranks.rank + 1)
    ranks.wait()
    second = join_ranks("dump", torch.device("cpu"))
    left = [texts == ["theirs", "", long], total in (1, 2, 3), ranks.add("rows", 0), second.add("rows", 0)]
    (folder / f"{ranks.rank}.json").write_text(json.dumps(left))


def test_the_first_ones_text_is_shared_and_numbers_are_added_up_in_each_dump_anew(tmp_path: Path) -> None:
    with started(2, meet, tmp_path) as processes:
        assert wait_for_end(processes) == [0, 0]

    for number in (0, 1):
        assert json.loads((tmp_path / f"{number}.json").read_text()) == [True, True, 3, 0]


def test_a_process_whose_torchrun_is_gone_says_so_and_ends() -> None:
    server = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    ranks = Ranks(rank=1, count=2, store=TCPStore("localhost", server.port, is_master=False))
    ranks.add("rows", 1)
    del server

    with pytest.raises(
        SoftlabError, match=r"process 2 of 2: torchrun, .* can't be reached: .*run the same command again"
    ):
        ranks.wait()


def test_alone_there_is_nothing_to_wait_for() -> None:
    ranks = Ranks()
    shards = [Shard(view=0, part=part, start=part, stop=part + 1) for part in range(3)]

    ranks.wait()
    assert (ranks.is_first, ranks.count, own_shards(shards, ranks), ranks.share("text")) == (True, 1, shards, "text")
    assert (ranks.add("rows", 2), ranks.add("rows", 3), ranks.add("bytes", 1)) == (2, 5, 1)


def test_shards_are_dealt_out_in_turn() -> None:
    shards = [Shard(view=0, part=part, start=part, stop=part + 1) for part in range(5)]

    dealt = [[shard.part for shard in own_shards(shards, Ranks(rank=number, count=3))] for number in range(3)]

    assert dealt == [[0, 3], [1, 4], [2]]

"""A dump that stopped goes on with what its message asks for: what was computed and is still valid stays."""

# Shape letters: C channels, H height, W width.

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from softlab.errors import GoesOnDifferently, InvalidOption, OddSource, RedoneInFloat32, StoreMismatch, UnreadableSample
from softlab.identity import content_hash
from softlab.modalities.images.inputs import ImageInput
from softlab.modalities.opening import open_source
from softlab.sources.source import Sample, SkippedSample
from softlab.store.files import write_files
from softlab.store.folder import count_finished_shards
from softlab.store.reader import open_store
from softlab.store.verify import verify_store
from softlab.teacher.dump import DumpSummary
from softlab.teacher.job import finalize
from softlab.teacher.options import DumpOptions
from softlab.teacher.planning import as_teacher, plan_dump
from tests.sources.pictures import encoded, picture, write_folder
from tests.store.building import contents
from tests.teacher.augmenting import AUGMENT
from tests.teacher.dumping import Pictures, dump, make_options, make_teacher, stop_at
from tests.teacher.test_overflow import Overflowing, spans_in


@dataclass(frozen=True, kw_only=True)
class Damaged(Pictures):
    """Some pictures can't be read; or they are left out, as `source.skip_unreadable` does."""

    damaged: frozenset[int] = frozenset({38})
    are_left_out: bool = False
    are_removed: bool = False

    @property
    def _numbers(self) -> list[int]:
        is_whole = not (self.are_left_out or self.are_removed)
        return [number for number in range(self.count) if is_whole or number not in self.damaged]

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def keys(self) -> Sequence[str]:
        return [f"{number:04d}.png" for number in self._numbers]

    def read(self, index: int) -> Sample:
        number = self._numbers[index]
        if number in self.damaged:
            raise UnreadableSample(f"sample '{number:04d}.png' can't be read. Say `source.skip_unreadable = true`.")
        return dataclasses.replace(Pictures(count=self.count).read(number), index=index, key=self.keys[index])


def left_out(*numbers: int, **values: Any) -> Damaged:
    skipped = tuple(SkippedSample(key=f"{number:04d}.png", reason="cut off") for number in numbers)
    return Damaged(damaged=frozenset(numbers), are_left_out=True, skipped=skipped, **values)


def stop_dump(out: Path, options: DumpOptions | None = None, *, rows: int = 33, **values: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        dump(out, options, on_progress=stop_at(rows), **values)


def go_on(match: str, out: Path, options: DumpOptions | None = None, **values: Any) -> DumpSummary:
    with pytest.warns(GoesOnDifferently, match=match):
        return dump(out, options, **values)


# Samples that can't be read.


def test_a_sample_that_can_not_be_read_costs_no_shard_before_it(tmp_path: Path) -> None:
    dump(tmp_path / "fresh", source=left_out(38))
    with pytest.raises(UnreadableSample, match=r"'0038.png' can't be read. Say `source.skip_unreadable = true`"):
        dump(tmp_path / "store", source=Damaged())

    summary = go_on(
        "the number of samples was 50, is now 49;.* Of 2 finished shards 2 stay",
        tmp_path / "store",
        source=left_out(38),
    )

    assert summary.rows_computed == 49 - 32
    assert [each.key for each in summary.manifest.source.skipped] == ["0038.png"]
    assert contents(tmp_path / "store") == contents(tmp_path / "fresh")


def test_a_sample_that_was_removed_costs_no_shard_before_it_either(tmp_path: Path) -> None:
    removed = Damaged(are_removed=True)
    dump(tmp_path / "fresh", source=removed)
    with pytest.raises(UnreadableSample):
        dump(tmp_path / "store", source=Damaged())

    assert go_on("2 stay", tmp_path / "store", source=removed).rows_computed == 49 - 32
    assert contents(tmp_path / "store") == contents(tmp_path / "fresh")


def test_shards_behind_it_are_computed_anew_as_their_samples_moved(tmp_path: Path) -> None:
    """Several processes may be ahead of the one that met it."""
    dump(tmp_path / "fresh", source=left_out(20))
    job = plan_dump(make_teacher(), Damaged(damaged=frozenset({20})), tmp_path / "store", make_options())
    for number in (0, 2, 3):
        job.run_shard(number)

    summary = go_on("Of 3 finished shards 1 stays", tmp_path / "store", source=left_out(20))

    assert summary.rows_computed == 49 - 16
    assert contents(tmp_path / "store") == contents(tmp_path / "fresh")


def test_a_shard_that_is_gone_with_its_last_sample_leaves_no_file(tmp_path: Path) -> None:
    dump(tmp_path / "fresh", source=left_out(48, count=49))
    with pytest.raises(UnreadableSample):
        dump(tmp_path / "store", source=Damaged(count=49, damaged=frozenset({48})))

    summary = go_on("3 stay", tmp_path / "store", source=left_out(48, count=49))

    assert summary.rows_computed == 0
    assert contents(tmp_path / "store") == contents(tmp_path / "fresh")


def test_of_several_views_those_that_are_there_stay(tmp_path: Path) -> None:
    options = make_options(views=2)
    dump(tmp_path / "fresh", options, source=left_out(38), augment=AUGMENT)
    stop_dump(tmp_path / "store", options, rows=67, augment=AUGMENT)
    finished = count_finished_shards(tmp_path / "store")
    assert finished == 5  # one of the second view

    summary = go_on("Of 5 finished shards 3 stay", tmp_path / "store", options, source=left_out(38), augment=AUGMENT)

    assert summary.rows_computed == 98 - 48
    assert contents(tmp_path / "store") == contents(tmp_path / "fresh")


def test_of_mixed_views_none_stays_as_any_sample_may_be_mixed_in(tmp_path: Path) -> None:
    mixed = dataclasses.replace(AUGMENT, mixup=0.2)
    dump(tmp_path / "fresh", source=left_out(38), augment=mixed)
    stop_dump(tmp_path / "store", augment=mixed)

    go_on("Of 2 finished shards none stays", tmp_path / "store", source=left_out(38), augment=mixed)

    assert contents(tmp_path / "store") == contents(tmp_path / "fresh")


def test_a_process_that_was_planned_before_writes_no_shard_of_the_old_plan(tmp_path: Path) -> None:
    job = plan_dump(make_teacher(), Damaged(), tmp_path / "store", make_options())
    job.run_shard(0)
    with pytest.warns(GoesOnDifferently):
        later = plan_dump(make_teacher(), left_out(38), tmp_path / "store", make_options())

    with pytest.raises(StoreMismatch, match="the number of samples was 49, is now 50"):
        job.run_shard(1)

    for number in range(1, 4):
        assert later.run_shard(number) == "written"
    assert finalize(tmp_path / "store").source.num_samples == 49
    assert verify_store(tmp_path / "store").is_intact


@pytest.mark.parametrize("source", [Pictures(count=40), Pictures(count=51), left_out(38, name="other")])
def test_another_data_set_is_refused_still(tmp_path: Path, source: Pictures) -> None:
    stop_dump(tmp_path / "store")
    before = contents(tmp_path / "store")

    with pytest.raises(StoreMismatch, match="begun differently"):
        dump(tmp_path / "store", source=source)

    assert contents(tmp_path / "store") == before


@pytest.mark.parametrize("number", [1, 2])
def test_a_kill_while_the_plan_is_replaced_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Before the samples and the plan are written, and between the two."""
    dump(tmp_path / "fresh", source=left_out(38))
    stop_dump(tmp_path / "store")

    def fail(root: Path, files: dict[str, bytes]) -> None:
        write_files(root, dict(list(files.items())[: number - 1]))
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("softlab.store.revision.write_files", fail)
        with pytest.raises(KeyboardInterrupt):
            dump(tmp_path / "store", source=left_out(38))
    summary = go_on("2 stay", tmp_path / "store", source=left_out(38))

    assert summary.rows_computed == 49 - 32
    assert contents(tmp_path / "store") == contents(tmp_path / "fresh")


# Precision.


def test_a_dump_of_half_precision_goes_on_in_float32_and_the_manifest_says_which_rows_are_which(
    tmp_path: Path,
) -> None:
    half, teacher = make_options(autocast="bfloat16"), Overflowing(3, 40)
    with pytest.warns(RedoneInFloat32):
        dump(tmp_path / "half", half, teacher=teacher)
    dump(tmp_path / "whole", teacher=teacher)
    stop_dump(tmp_path / "store", half, teacher=teacher)

    summary = go_on(
        r"\(`device.autocast`\) was 'bfloat16', is now 'float32'. Of 2 finished shards 2 stay in bfloat16",
        tmp_path / "store",
        teacher=teacher,
    )

    assert (summary.rows_computed, summary.manifest.teacher.precision) == (18, "float32")
    spans = [(each.start, each.stop, each.precision) for each in spans_in(tmp_path / "store")]
    assert spans == [(0, 3, "bfloat16"), (4, 16, "bfloat16"), (16, 32, "bfloat16")]
    found, of_half, whole = (open_store(tmp_path / name).read(np.arange(50)) for name in ("store", "half", "whole"))
    assert found.logits_BK[:32].equal(of_half.logits_BK[:32])
    assert found.logits_BK[32:].equal(whole.logits_BK[32:])
    assert verify_store(tmp_path / "store").is_intact
    assert dump(tmp_path / "store", teacher=teacher).rows_computed == 0


def test_a_finished_store_of_half_precision_has_nothing_left_to_do(tmp_path: Path) -> None:
    teacher = Overflowing(3, 40)
    with pytest.warns(RedoneInFloat32):
        dump(tmp_path / "store", make_options(autocast="bfloat16"), teacher=teacher)
    before = contents(tmp_path / "store")

    summary = go_on(
        "nothing is left to do. Its teacher ran in bfloat16, but for 2 rows that overflowed",
        tmp_path / "store",
        teacher=teacher,
    )

    assert summary.rows_computed == 0
    assert contents(tmp_path / "store") == before


def test_from_float32_a_dump_does_not_go_on_in_half_precision(tmp_path: Path) -> None:
    stop_dump(tmp_path / "store")

    with pytest.raises(StoreMismatch, match=re.escape("(`device.autocast`) was 'float32', is now 'bfloat16'")):
        dump(tmp_path / "store", make_options(autocast="bfloat16"))


# Input.


class AnyChannels(nn.Module):
    """Takes grey images and RGB ones, of any size."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 5)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        means_BC = images_BCHW.mean(dim=(2, 3))
        spread_B2 = images_BCHW.std(dim=(1, 2, 3))[:, None].expand(-1, 2)
        logits_BC: Tensor = self.head(torch.cat([means_BC, spread_B2], dim=1)[:, :3])
        return logits_BC


@dataclass(frozen=True, kw_only=True)
class Shaped(Pictures):
    """Grey pictures of 4 x 6, some of another shape, which none is that is looked at before the first row."""

    count: int = 256
    shapes: dict[int, tuple[int, int, int]] = field(default_factory=dict)

    def read(self, index: int) -> Sample:
        shape = self.shapes.get(index, (1, 4, 6))
        pixels_CHW: NDArray[np.uint8] = np.random.default_rng(index).integers(0, 256, shape, dtype=np.uint8)
        return dataclasses.replace(
            super().read(index), fields={"image": pixels_CHW}, content_hash=content_hash(pixels_CHW.tobytes())
        )


def shaped_dump(out: Path, source: Shaped, **input: Any) -> DumpSummary:
    torch.manual_seed(0)
    teacher = as_teacher(AnyChannels(), input=ImageInput(**input))
    return dump(out, make_options(k=2, shard_rows=32, batch_size=16), teacher=teacher, source=source)


@pytest.mark.parametrize(
    ("shape", "stated", "problem"),
    [
        ((3, 4, 6), {"channels": 1}, "grey and RGB"),
        ((1, 8, 6), {"size": (4, 6)}, "different sizes"),
    ],
)
def test_images_of_another_shape_cost_no_shard_before_them(
    tmp_path: Path, shape: tuple[int, int, int], stated: dict[str, Any], problem: str
) -> None:
    source = Shaped(shapes={199: shape})
    shaped_dump(tmp_path / "fresh", source, **stated)
    with pytest.raises(InvalidOption, match=f"samples '0192.png' and '0199.png': The images .*{problem}"):
        shaped_dump(tmp_path / "store", source)

    with pytest.warns(GoesOnDifferently, match=rf"`input.{next(iter(stated))}` was .*Of 6 finished shards 6 stay"):
        summary = shaped_dump(tmp_path / "store", source, **stated)

    assert summary.rows_computed == 64
    assert contents(tmp_path / "store") == contents(tmp_path / "fresh")


def test_shards_that_the_new_input_changes_are_computed_anew(tmp_path: Path) -> None:
    source = Shaped(shapes={199: (3, 4, 6)})
    shaped_dump(tmp_path / "fresh", source, channels=3)
    with pytest.raises(InvalidOption):
        shaped_dump(tmp_path / "store", source)

    with pytest.warns(GoesOnDifferently, match="Of 6 finished shards none stays"):
        summary = shaped_dump(tmp_path / "store", source, channels=3)

    assert summary.rows_computed == 256
    assert contents(tmp_path / "store") == contents(tmp_path / "fresh")


def test_a_limit_of_pixels_is_raised_and_a_background_said_without_losing_what_they_do_not_change(
    tmp_path: Path,
) -> None:
    files = {f"a/{number:02d}.png": encoded(picture(seed=number)) for number in range(40)}
    files["a/19.png"] = encoded(picture(seed=19).convert("RGBA"))
    files["a/38.png"] = encoded(picture(seed=38).resize((9, 9)))
    source = open_source(write_folder(tmp_path / "images", files))
    options = make_options(k=2, shard_rows=8)

    def run(out: str, **input: Any) -> DumpSummary:
        torch.manual_seed(0)
        stated = ImageInput(size=(4, 5), channels=3, **input)
        return dump(tmp_path / out, options, teacher=as_teacher(AnyChannels(), input=stated), source=source)

    with pytest.warns(OddSource, match="1 transparent"):
        run("fresh", background="black")
    with pytest.warns(OddSource), pytest.raises(UnreadableSample, match=r"'a/38.png'.*raise `input.max_pixels`"):
        run("store", max_pixels=50)
    assert count_finished_shards(tmp_path / "store") == 4

    with pytest.warns(GoesOnDifferently, match=r"`input.background` was 'white', is now 'black'.*4 .* 3 stay"):
        summary = run("store", background="black", max_pixels=100)

    assert summary.rows_computed == 16
    assert contents(tmp_path / "store") == contents(tmp_path / "fresh")


def test_another_size_than_the_one_begun_with_is_refused(tmp_path: Path) -> None:
    source = Shaped(shapes={199: (3, 4, 6)})
    with pytest.raises(InvalidOption):
        shaped_dump(tmp_path / "store", source, size=(4, 6))

    with pytest.raises(StoreMismatch, match=r"`input.size` was \[4, 6\], is now \[8, 8\]"):
        shaped_dump(tmp_path / "store", source, size=(8, 8))


def test_an_input_that_was_settled_is_taken_from_what_is_written_down(tmp_path: Path) -> None:
    """No sample is looked at for it: the RGB image that told the first one would have to be found again."""
    mixed, options = Shaped(count=200, shapes={0: (3, 4, 6)}), make_options(k=2, shard_rows=64)
    torch.manual_seed(0)
    teacher = as_teacher(AnyChannels(), input=ImageInput())
    with pytest.warns(OddSource, match="127 grey"):
        stop_dump(tmp_path / "store", options, rows=80, teacher=teacher, source=mixed)
    reads: list[int] = []

    class Watched(Shaped):
        def read(self, index: int) -> Sample:
            reads.append(index)
            return super().read(index)

    plan_dump(teacher, Watched(count=200, shapes={0: (3, 4, 6)}), tmp_path / "store", options)

    assert len(reads) <= 16  # those of the example

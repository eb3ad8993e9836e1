"""Rows that overflow in half precision are run again in float32, those alone, and the manifest says which."""

# Shape letters: B samples in a batch, C classes, H height, W width.

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from softlab.errors import RedoneInFloat32, TeacherError
from softlab.loading.aligned import Aligned
from softlab.loading.batch import Batch
from softlab.loading.loader import BatchLoader, LoaderOptions
from softlab.loading.order import in_sequence
from softlab.manifest import PrecisionRecord
from softlab.modalities.images.inputs import ImageInput
from softlab.sharing.fetch.pull import PullOptions, pull
from softlab.store.convert import convert_store
from softlab.store.reader import open_store
from softlab.store.verify import verify_store
from softlab.teacher.forward import TeacherRun
from softlab.teacher.job import finalize
from softlab.teacher.overflow import run_batches
from softlab.teacher.planning import as_teacher, plan_dump
from softlab.teacher.selections import TopK
from softlab.teacher.survey import survey_teacher
from tests.teacher.dumping import Pictures, dump, images_of, make_options, make_teacher, read_all, stop_at

FEATURES = {"map": "teacher.conv", "pooled": "teacher.relu:mean"}
HALF = make_options(autocast="bfloat16", feature=FEATURES)
THREE, REDONE = (33, 34, 40), [(33, 35), (40, 41)]


class Overflowing(nn.Module):
    """Gives inf for some pictures, as long as it runs in half precision."""

    def __init__(self, *numbers: int) -> None:
        super().__init__()
        self.teacher = make_teacher()
        self.register_buffer("pixels_NW", images_of(Pictures(), numbers or (0,))[: len(numbers), 0, 0])

    def forward(self, images_BCHW: Tensor) -> Tensor:
        logits_BC: Tensor = self.teacher(images_BCHW)
        if logits_BC.dtype == torch.float32:
            return logits_BC
        return logits_BC.masked_fill(self.is_one_of_them(images_BCHW)[:, None], torch.inf)

    def is_one_of_them(self, images_BCHW: Tensor) -> Tensor:
        pixels_NW = self.get_buffer("pixels_NW")
        return (images_BCHW[:, 0, 0][:, None] == pixels_NW).all(dim=2).any(dim=1)


def spans_in(out: Path) -> list[PrecisionRecord]:
    shards = open_store(out).manifest.shards
    return [span for shard in shards for span in (shard.precisions or ())]


def in_float32(*ranges: tuple[int, int]) -> list[PrecisionRecord]:
    return [PrecisionRecord(start=start, stop=stop, precision="float32") for start, stop in ranges]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of four shards; rows of the third one overflowed."""
    out = tmp_path_factory.mktemp("overflow") / "store"
    with pytest.warns(RedoneInFloat32, match="^3 rows of the teacher overflowed in bfloat16: only those were"):
        summary = dump(out, HALF, teacher=Overflowing(*THREE))
    assert summary.rows_redone == 3
    return out


def test_rows_that_overflow_are_run_again_in_float32_and_those_alone(tmp_path: Path, out: Path) -> None:
    dump(tmp_path / "float32", make_options(feature=FEATURES), teacher=Overflowing(*THREE))
    dump(tmp_path / "half", HALF, teacher=Overflowing())

    (store, found), (_, of_half), (whole, of_float32) = map(read_all, (out, tmp_path / "half", tmp_path / "float32"))
    those, others = list(THREE), [number for number in range(50) if number not in THREE]
    assert found.logits_BK[others].equal(of_half.logits_BK[others])
    assert found.logits_BK[those].equal(of_float32.logits_BK[those])
    assert not found.logits_BK[those].equal(of_half.logits_BK[those])
    for name in FEATURES:
        assert store.read_features(name, those).equal(whole.read_features(name, those))


def test_the_manifest_says_which(out: Path) -> None:
    assert spans_in(out) == in_float32(*REDONE)
    assert verify_store(out).is_intact


def test_a_store_where_nothing_overflowed_says_nothing(tmp_path: Path) -> None:
    summary = dump(tmp_path / "store", HALF, teacher=Overflowing())

    assert b"precisions" not in (tmp_path / "store/manifest.json").read_bytes()
    assert summary.rows_redone == 0


def test_shards_that_were_there_before_the_dump_went_on_count_too(tmp_path: Path) -> None:
    teacher = Overflowing(3, 40)
    with pytest.raises(KeyboardInterrupt):
        dump(tmp_path / "store", HALF, teacher=teacher, on_progress=stop_at(30))

    with pytest.warns(RedoneInFloat32, match="^2 rows"):
        summary = dump(tmp_path / "store", HALF, teacher=teacher)

    assert summary.rows_computed < 50
    assert spans_in(tmp_path / "store") == in_float32((3, 4), (40, 41))


def test_shards_of_a_job_say_so_where_they_are_run_and_in_the_manifest(tmp_path: Path) -> None:
    job = plan_dump(Overflowing(*THREE), Pictures(), tmp_path / "store", HALF)
    for number in (3, 0, 1):
        job.run_shard(number)

    with pytest.warns(RedoneInFloat32, match="^3 rows"):
        job.run_shard(2)
    finalize(tmp_path / "store")

    assert spans_in(tmp_path / "store") == in_float32(*REDONE)


def test_a_conversion_and_a_part_say_so_of_the_same_samples(tmp_path: Path, out: Path) -> None:
    (tmp_path / "keys.txt").write_text("".join(f"{number:04d}.png\n" for number in (5, 20, 34, 36, 40)))

    convert_store(open_store(out), tmp_path / "parquet", format="parquet")
    pull(out, tmp_path / "part", PullOptions(samples=tmp_path / "keys.txt"))

    assert spans_in(tmp_path / "parquet") == in_float32(*REDONE)
    assert spans_in(tmp_path / "part") == in_float32((2, 3), (4, 5))


def test_what_is_not_finite_in_float32_either_is_refused_by_its_key(tmp_path: Path) -> None:
    class Broken(Overflowing):
        def forward(self, images_BCHW: Tensor) -> Tensor:
            return super().forward(images_BCHW).masked_fill(self.is_one_of_them(images_BCHW)[:, None], torch.nan)

    with pytest.raises(TeacherError, match=r"for 3 of 16 samples, such as '0033.png'"):
        dump(tmp_path / "store", HALF, teacher=Broken(*THREE))


def test_a_batch_is_looked_at_when_the_next_one_is_on_its_way() -> None:
    options, calls = make_options(autocast="bfloat16"), []
    teacher = Overflowing(*THREE)
    teacher.register_forward_hook(lambda _, __, output: calls.append(str(output.dtype)))
    aligned = Aligned(source=Pictures(), inputs=(ImageInput(),))

    def batches() -> Iterator[Batch]:
        loader = BatchLoader(aligned, device=torch.device("cpu"), options=LoaderOptions())
        yield from itertools.islice(loader.load(in_sequence(0, 50, batch_size=10)), 5)

    with TeacherRun(as_teacher(teacher), options) as run:
        found = [output.wait().redone_B for _, output in run_batches(run, batches(), selections={"logits": TopK(k=5)})]

    assert [0 if each is None else int(each.sum()) for each in found] == [0, 0, 0, 2, 1]
    assert calls == ["torch.bfloat16"] * 5 + ["torch.float32"] * 2  # the last but one waits for the last


def test_a_plan_counts_them_and_is_made_of_what_a_dump_would_hold() -> None:
    half = make_options(autocast="bfloat16")

    found = survey_teacher(as_teacher(Overflowing(*THREE)), Pictures(), half)

    assert found.num_redone == 3
    assert all(0 < mass <= 1 for choice in found.choices for mass in choice.captured_mass_T)


def test_a_teacher_that_overflows_for_every_sample_is_dumped_in_float32(tmp_path: Path) -> None:
    with pytest.warns(RedoneInFloat32, match="^50 rows"):
        summary = dump(tmp_path / "store", make_options(autocast="bfloat16"), teacher=Overflowing(*range(50)))

    assert summary.rows_redone == 50

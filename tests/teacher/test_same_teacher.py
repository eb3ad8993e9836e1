"""A dump that is gone on with has the teacher that began it: two stored samples are compared with what it gives now."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from softlab.errors import OtherNumerics, StoreMismatch
from softlab.labels.coding import Coding
from softlab.labels.values_coding import ValuesCoding
from softlab.store.format import FormatName
from softlab.store.verify import verify_store
from softlab.store.workers import WORKERS
from softlab.teacher.job import finalize
from softlab.teacher.planning import plan_dump
from tests.store.building import FORMATS, contents
from tests.teacher.augmenting import AUGMENT, MIXING
from tests.teacher.dumping import Pictures, dump, make_options, make_teacher, stop_at

REFUSED = "the teacher isn't the one that began. Give it the weights, .*, or choose another `out`.$"

MOODS = {"now": 1.0, "shift": 0.0}
"""What hides from every hash of weights."""


class Moody(nn.Module):
    """A teacher whose answer hangs on a variable of this file; by default as `make_teacher`."""

    def __init__(self, *, units: bool = False, seed: int = 0) -> None:
        super().__init__()
        self.teacher, self.units = make_teacher(seed=seed), units

    def forward(self, images_BCHW: Tensor) -> Tensor:
        logits_BC: Tensor = self.teacher(images_BCHW) * MOODS["now"]
        logits_BC = logits_BC + MOODS["shift"] * torch.eye(logits_BC.shape[1])[2]
        return torch.stack([logits_BC, -logits_BC], dim=1) if self.units else logits_BC


@pytest.fixture(autouse=True)
def calm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MOODS, "now", 1.0)
    monkeypatch.setitem(MOODS, "shift", 0.0)


def begin(out: Path, teacher: nn.Module, **values: Any) -> None:
    """A dump that was stopped when its first shards were written."""
    with pytest.raises(KeyboardInterrupt):
        dump(out, make_options(**values), teacher=teacher, on_progress=stop_at(40))


def what_counts(out: Path) -> dict[str, bytes]:
    """All files of a dump under way but those that say who is at work."""
    return {name: data for name, data in contents(out).items() if not name.startswith(WORKERS)}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("coding", ["float32", "uint8"])
@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"now": 1.1}, r"the log.*: [-\d.]+, and now it is [-\d.]+"),
        ({"shift": 30.0}, r"the logit in place 1 by size: [-\d.]+, and now it is [\d.]+"),
        ({"now": float("nan")}, "the largest logit: finite, and now it is not"),
    ],
)
def test_a_dump_does_not_go_on_with_a_teacher_that_answers_otherwise(
    tmp_path: Path, format: FormatName, coding: Coding, change: dict[str, float], found: str
) -> None:
    begin(tmp_path / "store", Moody(), format=format, coding=coding)
    before = what_counts(tmp_path / "store")
    MOODS.update(change)

    with pytest.raises(StoreMismatch, match=f"output logits of the sample '0000.png': stored is {found}: {REFUSED}"):
        dump(tmp_path / "store", make_options(format=format, coding=coding), teacher=Moody())

    assert what_counts(tmp_path / "store") == before


def test_classes_that_are_not_kept_count_too(tmp_path: Path) -> None:
    """The third class is kept neither of the first nor of the last sample."""
    begin(tmp_path / "store", Moody())
    MOODS["shift"] = 1.2

    with pytest.raises(StoreMismatch, match=r"stored is the log tail at T = 1 \(times T/2\): -[\d.]+, and now it is"):
        dump(tmp_path / "store", make_options(), teacher=Moody())


EVERYTHING: dict[str, Any] = {
    "coding": "uint8",
    "feature": {"maps": "teacher.relu:none", "pooled": "teacher.relu:mean"},
}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("values_coding", ["float32", "float16", "int8", "int8_rotated"])
@pytest.mark.parametrize("units", [False, True])
def test_the_same_teacher_goes_on_whatever_is_stored(
    tmp_path: Path, format: FormatName, values_coding: ValuesCoding, units: bool
) -> None:
    teacher, augment = Moody(units=units), AUGMENT if units else MIXING
    options = make_options(**EVERYTHING, format=format, values_coding=values_coding, views=2)
    with pytest.raises(KeyboardInterrupt):
        dump(tmp_path / "store", options, teacher=teacher, augment=augment, on_progress=stop_at(64))

    dump(tmp_path / "store", options, teacher=teacher, augment=augment)

    more = make_options(**EVERYTHING, format=format, values_coding=values_coding, views="+1")
    dump(tmp_path / "store", more, teacher=teacher, augment=augment)
    assert verify_store(tmp_path / "store").is_intact


@pytest.mark.parametrize("values_coding", ["float32", "float16", "int8", "int8_rotated"])
def test_features_are_compared(tmp_path: Path, values_coding: ValuesCoding) -> None:
    options: dict[str, Any] = {"feature": {"seen": "last"}, "values_coding": values_coding}

    class Tapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.teacher, self.last = make_teacher(), nn.Identity()

        def forward(self, images_BCHW: Tensor) -> Tensor:
            self.last(images_BCHW.flatten(1) * MOODS["now"])
            logits_BC: Tensor = self.teacher(images_BCHW)
            return logits_BC

    begin(tmp_path / "store", Tapped(), **options)
    MOODS["now"] = 1.1

    with pytest.raises(StoreMismatch, match=r"output seen of the sample .*: stored is number \d+: .*, and now it is"):
        dump(tmp_path / "store", make_options(**options), teacher=Tapped())


def test_views_are_not_added_by_a_teacher_that_answers_otherwise(tmp_path: Path) -> None:
    dump(tmp_path / "store", make_options(views=1), teacher=Moody(), augment=AUGMENT)
    before = contents(tmp_path / "store")
    MOODS["now"] = 1.1

    with pytest.raises(StoreMismatch, match=REFUSED):
        dump(tmp_path / "store", make_options(views="+1"), teacher=Moody(), augment=AUGMENT)

    found = contents(tmp_path / "store")
    assert {name: found[name] for name in before} == before


def test_a_finished_store_is_not_taken_for_that_of_another_teacher(tmp_path: Path) -> None:
    dump(tmp_path / "store", teacher=Moody())
    MOODS["now"] = 1.1

    with pytest.raises(StoreMismatch, match=REFUSED):
        dump(tmp_path / "store", teacher=Moody())


def test_a_shard_that_is_run_alone_is_compared_with_the_shards_that_are_there(tmp_path: Path) -> None:
    job = plan_dump(Moody(), Pictures(), tmp_path / "store", make_options())
    job.run_shard(2)
    MOODS["now"] = 1.1

    with pytest.raises(StoreMismatch, match=f"sample '0032.png': stored is .*{REFUSED}"):
        job.run_shard(0)

    MOODS["now"] = 1.0
    assert [job.run_shard(number) for number in (0, 1, 2, 3)] == ["written", "written", "already there", "written"]
    assert finalize(tmp_path / "store").num_rows == 50


def test_a_sample_that_has_changed_is_not_blamed_on_the_teacher(tmp_path: Path) -> None:
    job = plan_dump(Moody(), Pictures(), tmp_path / "store", make_options())
    job.run_shard(0)
    other = plan_dump(Moody(), Pictures(black=frozenset({15})), tmp_path / "store", make_options())

    with pytest.raises(StoreMismatch, match=r"sample '0015.png' is not the one that is stored\. Restore the data"):
        other.run_shard(1)


def test_a_difference_that_another_device_explains_is_told(tmp_path: Path) -> None:
    begin(tmp_path / "store", Moody(), coding="float32")
    MOODS["now"] = 1.002

    with pytest.warns(OtherNumerics, match=r"logits of the sample .*: stored is .*, and now it is .* as much$"):
        dump(tmp_path / "store", make_options(coding="float32"), teacher=Moody())

    assert verify_store(tmp_path / "store").is_intact

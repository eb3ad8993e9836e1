from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from softlab.cli.quality import quality_facts
from softlab.errors import InvalidOption, StoreExists, StoreMismatch
from softlab.labels.gap_step import STEPS, choose_gap_step, coding_cost, coding_shift
from softlab.labels.selection import keep_top_k
from softlab.models.device import DeviceOptions
from softlab.store.reader import open_store
from softlab.teacher.options import DumpOptions
from tests.teacher.dumping import Pictures, dump, forward_of, make_options, make_teacher, stop_at


def small(**values: object) -> DumpOptions:
    """uint8 with the step left open; all pictures in one batch, so that all of them choose."""
    cpu = DeviceOptions(name="cpu")
    defaults: dict[str, Any] = {"k": 5, "shard_rows": 16, "batch_size": 64, "device": cpu, "coding": "uint8"}
    return DumpOptions(**(defaults | values))


class Louder(nn.Module):
    """Says the same, its logits so many times as large."""

    def __init__(self, times: float) -> None:
        super().__init__()
        self.teacher, self.times = make_teacher(), times

    def forward(self, images_BCHW: Tensor) -> Tensor:
        logits_BC: Tensor = self.times * self.teacher(images_BCHW)
        return logits_BC


def step_of(out: Path) -> float | None:
    return open_store(out).manifest.classes[0].coding.gap_step


@pytest.mark.parametrize("times", [1.0, 10.0, 100.0])
def test_the_step_is_chosen_from_what_the_teacher_says_and_recorded(tmp_path: Path, times: float) -> None:
    dump(tmp_path / "store", small(), teacher=Louder(times))

    logits_NC = forward_of(Louder(times), Pictures(), make_options(batch_size=64))
    chosen = choose_gap_step(keep_top_k(logits_NC, k=5, temperatures=small().temperature))
    assert step_of(tmp_path / "store") == chosen
    assert torch.equal(open_store(tmp_path / "store").read(range(10)).logits_BK.div(chosen).frac(), torch.zeros(10, 5))


def test_a_given_step_is_taken(tmp_path: Path) -> None:
    dump(tmp_path / "store", small(gap_step=0.3))

    assert step_of(tmp_path / "store") == 0.3


def test_a_dump_goes_on_with_the_step_that_it_was_begun_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another machine may round the teacher's logits otherwise, and would choose another."""
    with pytest.raises(KeyboardInterrupt):
        dump(tmp_path / "store", small(), on_progress=stop_at(20))
    monkeypatch.setattr("softlab.teacher.plan.choose_gap_step", lambda labels: STEPS[-1] / 2)

    dump(tmp_path / "store", small())
    again = dump(tmp_path / "store", small())

    assert step_of(tmp_path / "store") != STEPS[-1] / 2
    assert again.rows_computed == 0


def test_another_step_than_the_first_dumps_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        dump(tmp_path / "begun", small(gap_step=0.5), on_progress=stop_at(20))
    dump(tmp_path / "finished", small(gap_step=0.5))

    with pytest.raises(StoreMismatch, match=r"`dump.gap_step` was 0\.5, is now 0\.25"):
        dump(tmp_path / "begun", small(gap_step=0.25))
    with pytest.raises(StoreExists, match=r"`dump.gap_step` was 0\.5, is now 0\.25"):
        dump(tmp_path / "finished", small(gap_step=0.25))


@pytest.mark.parametrize("step", [0.0, -1.0, 65.0, float("nan")])
def test_an_impossible_step_is_refused(step: float) -> None:
    with pytest.raises(InvalidOption, match=r"Leave `dump\.gap_step` out"):
        small(gap_step=step)


@pytest.mark.parametrize("coding", ["float16", "float32"])
def test_a_step_for_another_coding_is_refused(coding: str) -> None:
    with pytest.raises(InvalidOption, match=r"Say `dump\.coding = uint8` too"):
        small(coding=coding, gap_step=0.25)


def test_the_manifest_says_what_the_coding_costs_and_by_how_much_a_loss_moves(tmp_path: Path) -> None:
    dump(tmp_path / "store", small())
    store = open_store(tmp_path / "store")

    exact = keep_top_k(forward_of(make_teacher(), Pictures(), make_options(batch_size=64)), k=5)
    stored = store.read(range(50))
    costs = [coding_cost(exact, stored, temperature=each).mean().item() for each in exact.temperatures]
    shifts = [coding_shift(exact, stored, temperature=each).mean().item() for each in exact.temperatures]
    assert store.statistics.coding_cost == pytest.approx((max(costs), max(shifts)), rel=1e-3)
    assert "a loss moves by" in quality_facts(store.manifest, without_targets="-")["uint8 coding"]


def test_other_codings_say_nothing_and_keep_their_bytes(tmp_path: Path) -> None:
    dump(tmp_path / "store", make_options(coding="float16"))

    assert open_store(tmp_path / "store").statistics.coding_cost is None
    assert "coding_kl" not in (tmp_path / "store" / "manifest.json").read_text()

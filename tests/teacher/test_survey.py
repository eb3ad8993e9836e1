# Shape letters: N samples, C classes, K entries kept.

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from softlab.errors import InvalidOption, TeacherError
from softlab.labels.coding import Coding
from softlab.labels.truncation import truncation
from softlab.store.folder import read_plan
from softlab.store.format import FormatName
from softlab.teacher import plan, survey_run
from softlab.teacher.options import DumpOptions
from softlab.teacher.planning import as_teacher
from softlab.teacher.survey import Survey, survey_teacher
from softlab.teacher.survey_run import SurveyProgress
from tests.store.building import CODINGS, FORMATS, contents
from tests.teacher.dumping import (
    NUM_CLASSES,
    AfraidOfTheDark,
    Pictures,
    dump,
    forward_of,
    make_options,
    make_teacher,
    stop_at,
)

TEMPERATURES = (1.0, 2.0, 4.0)


def ask(
    options: DumpOptions | None = None, *, teacher: nn.Module | None = None, source: Pictures | None = None
) -> Survey:
    module = make_teacher() if teacher is None else teacher
    return survey_teacher(as_teacher(module), source or Pictures(), options or make_options())


def divergence(logits_NC: Tensor, *, k: int, temperature: float) -> float:
    """Mean KL in float64 from the teacher to a dense rebuild, where classes outside the K largest share their mass."""
    probability_NC = (logits_NC.double() / temperature).softmax(dim=1)
    is_kept_NC = torch.zeros_like(probability_NC).scatter(1, probability_NC.topk(k, dim=1).indices, 1.0).bool()
    tail_N = probability_NC.masked_fill(is_kept_NC, 0).sum(dim=1, keepdim=True)
    rebuilt_NC = torch.where(is_kept_NC, probability_NC, tail_N / max(logits_NC.shape[1] - k, 1))
    return torch.xlogy(probability_NC, probability_NC / rebuilt_NC).sum(dim=1).mean().item()


def captured_mass(logits_NC: Tensor, *, k: int, temperature: float) -> float:
    return (logits_NC.double() / temperature).softmax(dim=1).topk(k, dim=1).values.sum(dim=1).mean().item()


# What truncation costs.


@pytest.mark.parametrize("scale", [0.1, 3.0, 30.0])
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_mass_and_kl_are_those_of_a_dense_rebuild(scale: float, temperature: float) -> None:
    logits_NC = scale * torch.randn(30, 12, generator=torch.Generator().manual_seed(1))

    mass_KT, kl_KT = truncation(logits_NC, temperatures=[temperature])

    for k in range(1, 13):
        assert mass_KT[k - 1, 0].item() == pytest.approx(captured_mass(logits_NC, k=k, temperature=temperature))
        expected = divergence(logits_NC, k=k, temperature=temperature)
        assert kl_KT[k - 1, 0].item() == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_all_classes_lose_nothing() -> None:
    mass_KT, kl_KT = truncation(torch.randn(30, 12), temperatures=TEMPERATURES)

    assert mass_KT[-1].tolist() == pytest.approx([1, 1, 1], abs=1e-15)
    assert kl_KT[-1].tolist() == pytest.approx([0, 0, 0], abs=1e-15)


def test_a_survey_measures_the_teacher_that_is_dumped() -> None:
    logits_NC = forward_of(make_teacher(), Pictures(), make_options(shard_rows=None))

    found = ask()

    assert (found.surveyed, found.num_samples, found.num_classes) == (50, 50, 20)
    assert (found.chosen_k, found.temperatures) == (5, TEMPERATURES)
    assert [choice.k for choice in found.choices] == [1, 2, 4, 5, 8, 16, 20]
    for choice in found.choices:
        masses = [captured_mass(logits_NC, k=choice.k, temperature=t) for t in TEMPERATURES]
        divergences = [divergence(logits_NC, k=choice.k, temperature=t) for t in TEMPERATURES]
        assert choice.captured_mass_T == pytest.approx(masses)
        assert choice.kl_T == pytest.approx(divergences, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(
    ("num_classes", "k", "candidates"),
    [
        (3, None, [1, 2, 3]),
        (300, None, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]),
        (2000, 300, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 1024]),
    ],
)
def test_a_survey_compares_powers_of_two(num_classes: int, k: int | None, candidates: list[int]) -> None:
    found = ask(make_options(k=k), teacher=make_teacher(num_classes=num_classes), source=Pictures(count=4))

    assert [choice.k for choice in found.choices] == candidates


# What it would weigh and take.


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("shard_rows", [None, 128, 4096])
def test_bytes_per_row_are_those_of_the_dump(
    tmp_path: Path, format: FormatName, coding: Coding, shard_rows: int | None
) -> None:
    options = make_options(format=format, coding=coding, shard_rows=shard_rows, feature={"pooled": "conv:mean"})
    source = Pictures(count=512)

    found = ask(options, source=source)

    manifest = dump(tmp_path / "store", options, source=source).manifest
    weighed = sum(file.bytes for shard in manifest.shards for file in shard.files) / 512
    (chosen,) = [choice for choice in found.choices if choice.k == found.chosen_k]
    assert chosen.bytes_per_row == pytest.approx(weighed, rel=0.1)
    whole = sum(file.stat().st_size for file in (tmp_path / "store").rglob("*") if file.is_file())
    assert found.store_bytes(chosen) == pytest.approx(whole, rel=0.15)
    if coding == "uint8":
        assert found.gap_step == manifest.classes[0].coding.gap_step
        assert found.coding_cost == pytest.approx(manifest.statistics["logits"].coding_cost, rel=1e-3)


def test_a_survey_of_some_samples_speaks_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey_run, "SURVEYED_SAMPLES", 10)

    found = ask(source=Pictures(count=91))

    spread = Pictures(count=91)
    logits_NC = forward_of(make_teacher(), spread, make_options(shard_rows=None))[::10]
    assert (found.surveyed, found.num_samples) == (10, 91)
    assert found.choices[0].captured_mass_T[0] == pytest.approx(captured_mass(logits_NC, k=1, temperature=1.0))
    assert found.seconds == pytest.approx(91 / found.rows_per_second)


def test_where_features_are_large_fewer_samples_are_surveyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey_run, "SURVEYED_BYTES", 3000)  # logits of two batches, or logits and a map of one

    assert ask(make_options(feature={})).surveyed in (42, 43)  # batches of 7, one of 8
    assert ask(make_options(feature={"map": "conv"})).surveyed in (21, 22)


def test_a_survey_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    ask(make_options(feature={"map": "conv"}))

    assert not contents(tmp_path)


class Slow(nn.Module):
    """Takes its time for each sample."""

    def __init__(self) -> None:
        super().__init__()
        self.teacher = make_teacher()

    def forward(self, images_BCHW: Tensor) -> Tensor:
        time.sleep(0.01 * len(images_BCHW))
        logits_BC: Tensor = self.teacher(images_BCHW)
        return logits_BC


def test_a_slow_teacher_is_surveyed_for_as_long_as_there_is_time() -> None:
    seen: list[SurveyProgress] = []
    source = Pictures(count=400)

    found = survey_teacher(
        as_teacher(Slow()), source, make_options(batch_size=256), seconds=0.8, on_progress=seen.append
    )

    assert 1 <= found.surveyed < 200
    assert found.is_cut_short
    assert found.rows_per_second == pytest.approx(100, rel=0.5)
    assert (seen[0].done, seen[-1].done, seen[-1].total) == (0, found.surveyed, 400)


def test_what_is_surveyed_when_the_time_ends_is_from_all_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last quarter of the pictures is black, and the teacher is sure of them."""
    source = Pictures(count=400, black=frozenset(range(300, 400)))

    monkeypatch.setattr(survey_run, "SURVEYED_BYTES", 20 * 80)

    found = survey_teacher(as_teacher(AfraidOfTheDark(1000.0)), source, make_options(batch_size=1))

    assert found.surveyed == 21
    assert found.choices[0].captured_mass_T[-1] > 0.2  # of all 0.32, of those that aren't black 0.09


def test_no_time_at_all_is_refused() -> None:
    with pytest.raises(InvalidOption, match="Change `plan_seconds`"):
        survey_teacher(as_teacher(make_teacher()), Pictures(), make_options(), seconds=0)


# What is recommended.


def test_of_few_classes_the_defaults_are_recommended() -> None:
    best = ask(make_options(k=None)).recommended

    assert best is not None
    assert (best.k, best.temperature) == (NUM_CLASSES, 4.0)


def test_of_outputs_that_are_near_uniform_no_angle_is_told_and_nothing_recommended() -> None:
    teacher = make_teacher()
    teacher.get_submodule("classifier").weight.data.mul_(1e-6)  # type: ignore[operator]
    teacher.get_submodule("classifier").bias.data.zero_()  # type: ignore[operator]

    found = ask(make_options(k=5), teacher=teacher)

    assert all(math.isnan(angle) for choice in found.choices[:-1] for angle in choice.angle_T)
    assert found.choices[-1].angle_T == (0, 0, 0)
    assert found.recommended is None


def test_of_many_classes_the_dump_keeps_what_is_recommended_and_goes_on_with_it(tmp_path: Path) -> None:
    """Its logits say little, so that 16 of 1,000 would be a poor part of them."""
    options, teacher, out = make_options(k=None, coding="float32"), make_teacher(num_classes=1000), tmp_path / "store"
    teacher.get_submodule("classifier").weight.data.mul_(1.45)  # type: ignore[operator]

    best = ask(options, teacher=teacher, source=Pictures(class_names=None)).recommended
    with pytest.raises(KeyboardInterrupt):
        dump(out, options, teacher=teacher, source=Pictures(class_names=None), on_progress=stop_at(20))
    chosen = read_plan(out).classes[0].selection.k
    with monkeypatched_choice(8):
        manifest = dump(out, options, teacher=teacher, source=Pictures(class_names=None)).manifest

    assert best is not None
    assert best.k > 16
    assert best.temperature == 1.0
    assert "at T=2 by" in best.why
    assert manifest.classes[0].selection.k == chosen == best.k


@contextmanager
def monkeypatched_choice(k: int) -> Iterator[None]:
    """What would be chosen now is something else."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "k_for_many", lambda *_, **__: k)
        yield


def test_under_a_sigmoid_head_nothing_is_recommended() -> None:
    found = ask(make_options(head="sigmoid"))

    assert (found.recommended, found.choices[0].angle_T) == (None, ())


# What is refused, as by the dump.


def test_logits_that_are_not_finite_are_refused() -> None:
    with pytest.raises(TeacherError, match="Check its weights and inputs"):
        ask(teacher=AfraidOfTheDark(float("nan")), source=Pictures(black=frozenset({40})))


def test_more_logits_than_classes_are_refused() -> None:
    with pytest.raises(InvalidOption, match=r"Choose `dump.k` from 1 to 20\."):
        ask(make_options(k=21))

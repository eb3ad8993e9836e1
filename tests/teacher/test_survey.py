# Shape letters: N samples, C classes, K entries kept.

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from softlab.errors import InvalidOption, TeacherError
from softlab.labels.coding import Coding
from softlab.store.format import FormatName
from softlab.teacher import survey
from softlab.teacher.options import DumpOptions
from softlab.teacher.planning import as_teacher
from softlab.teacher.survey import Survey, survey_teacher, truncation
from tests.store.building import CODINGS, FORMATS, contents
from tests.teacher.dumping import AfraidOfTheDark, Pictures, dump, forward_of, make_options, make_teacher

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

    shards = dump(tmp_path / "store", options, source=source).manifest.shards
    weighed = sum(file.bytes for shard in shards for file in shard.files) / 512
    (chosen,) = [choice for choice in found.choices if choice.k == found.chosen_k]
    assert chosen.bytes_per_row == pytest.approx(weighed, rel=0.1)
    assert found.store_bytes(chosen) == 512 * chosen.bytes_per_row


def test_a_survey_of_some_samples_speaks_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "SURVEYED_SAMPLES", 10)

    found = ask(source=Pictures(count=91))

    spread = Pictures(count=91)
    logits_NC = forward_of(make_teacher(), spread, make_options(shard_rows=None))[::10]
    assert (found.surveyed, found.num_samples) == (10, 91)
    assert found.choices[0].captured_mass_T[0] == pytest.approx(captured_mass(logits_NC, k=1, temperature=1.0))
    assert found.seconds == pytest.approx(91 / found.rows_per_second)


def test_where_features_are_large_fewer_samples_are_surveyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "SURVEYED_BYTES", 3000)  # logits of two batches, or logits and a map of one

    assert ask(make_options(feature={})).surveyed == 40
    assert ask(make_options(feature={"map": "conv"})).surveyed == 24


def test_a_survey_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    ask(make_options(feature={"map": "conv"}))

    assert not contents(tmp_path)


# What is refused, as by the dump.


def test_logits_that_are_not_finite_are_refused() -> None:
    with pytest.raises(TeacherError, match="Check its weights and inputs"):
        ask(teacher=AfraidOfTheDark(float("nan")), source=Pictures(black=frozenset({40})))


def test_more_logits_than_classes_are_refused() -> None:
    with pytest.raises(InvalidOption, match=r"Choose `dump.k` from 1 to 20\."):
        ask(make_options(k=21))

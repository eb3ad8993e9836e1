"""Advice on how to train a student: what competes, on what part of a run, and what it comes to."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from softlab.errors import InvalidOption, StoreMismatch, TrainingFailed
from softlab.labels.losses import KlLoss
from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.sources.source import Source
from softlab.store.reader import Store
from softlab.student import advice_rounds
from softlab.student.advice_rounds import ROUNDS, Round, _with_one_between, with_alpha
from softlab.student.advise import Advice, AdviseOptions, advise
from softlab.student.heads.options import HeadOptions
from softlab.student.options import LearnOptions, Student, TrainOptions
from softlab.student.run_folder import StudentResult
from softlab.student.train import train_students
from softlab.student.validation import Validation
from tests.student.pictures import make_options, make_store, make_student, pictures, train


def ask(
    store: Store,
    out: Path,
    *,
    make: Callable[[], nn.Module] = make_student,
    options: TrainOptions | None = None,
    valid: Validation | None = None,
    on_round: Callable[[Round], None] | None = None,
    **what: Any,
) -> Advice:
    """Of a run of 8 epochs, by default without the run on half of the samples."""
    return advise(
        make,
        pictures(),
        [store],
        options or make_options(epochs=8),
        AdviseOptions(**{"half": False} | what),
        valid=valid or Validation(source=pictures()),
        out=out,
        on_round=on_round,
    )


def names(found: Round) -> set[str]:
    return {trial.result.name for trial in found.trials}


def test_all_candidates_compete_and_ever_fewer_for_ever_longer(first: Store, tmp_path: Path) -> None:
    seen: list[Round] = []

    found = ask(first, tmp_path, on_round=seen.append, options=make_options(epochs=12))

    kl = {f"kl-T{t}-alpha{alpha}" for t in (1, 2, 4) for alpha in ("1", "0_7", "0_3")}
    assert names(found.rounds[0]) == kl | {"hard"}
    assert [len(each.trials) for each in found.rounds] == [10, 4, 3]
    assert [each.run.epochs for each in found.rounds] == [1, 3, 12]
    assert [each.num_samples for each in found.rounds] == [24, 24, 24]
    assert seen == list(found.rounds)
    first_round, second, last = found.rounds
    assert names(second) == {trial.result.name for trial in first_round.trials[:4]}
    best_two = {trial.result.name for trial in second.trials[:2]}
    assert best_two < names(last)
    assert found.cost == pytest.approx(10 / 10 + 4 / 4 + 3)
    assert not found.is_reached


def test_beside_the_best_two_a_third_one_has_an_alpha_between_theirs() -> None:
    def learn(alpha: float, temperature: float = 1.0) -> LearnOptions:
        return with_alpha(LearnOptions(loss=KlLoss(temperature=temperature)), alpha)

    best, hard, third = learn(0.3), learn(0.0, temperature=4.0), learn(1.0)

    after = _with_one_between({"best": best, "hard": hard, "third": third})
    same = _with_one_between({"best": best, "other": learn(1.0, temperature=4.0), "third": third})
    two = _with_one_between({"best": best, "hard": hard})

    assert after == {"best": best, "hard": hard, "kl-T1-alpha0_15": learn(0.15)}
    assert list(same) == ["best", "other", "third"], "they differ in temperature too"
    assert list(two) == ["best", "hard"]


def test_the_best_trains_again_to_its_score(first: Store, tmp_path: Path) -> None:
    options = make_options(epochs=8)

    found = ask(first, tmp_path, options=options)

    (again,) = train({"again": Student(module=make_student(), learn=found.best.learn)}, first, valid=True, epochs=8)
    assert again.last is not None
    assert again.last.values["accuracy"] == found.best.score
    assert found.best == max(found.rounds[-1].trials, key=lambda trial: trial.score)
    assert found.run == options.run


def test_of_a_run_of_one_epoch_parts_have_fewer_samples_that_are_chosen_at_random(first: Store, tmp_path: Path) -> None:
    found = ask(first, tmp_path, options=make_options(epochs=1, batch_size=2))

    assert [each.run.epochs for each in found.rounds] == [1, 1, 1]
    assert [each.num_samples for each in found.rounds] == [2, 6, 24]


def test_parts_of_a_run_of_several_views_an_image_show_all_of_their_samples(tmp_path: Path) -> None:
    augment = ViewRecipe(transforms=("RandomHorizontalFlip()",))
    store = make_store(tmp_path / "store", augment=augment, views=4)

    found = ask(store, tmp_path / "out", options=make_options(epochs=8, batch_size=4, views_per_image=4))

    assert [each.run.epochs for each in found.rounds] == [4, 4, 8], "four epochs show each sample once"
    assert [each.num_samples for each in found.rounds] == [4, 12, 24]


def test_without_hard_targets_only_the_teacher_is_learnt(first: Store, tmp_path: Path) -> None:
    unlabelled = replace(pictures(), targets_N=None)

    found = advise(
        make_student,
        unlabelled,
        [first],
        make_options(epochs=8),
        AdviseOptions(half=False),
        valid=Validation(source=unlabelled, store=first),
        out=tmp_path,
    )

    assert names(found.rounds[0]) == {"kl-T1-alpha1", "kl-T2-alpha1", "kl-T4-alpha1"}
    assert found.hard is None
    assert found.best.result.best_by == "teacher_kl"


def test_half_of_the_samples_are_learnt_for_as_many_steps(first: Store, tmp_path: Path) -> None:
    found = ask(first, tmp_path, half=True, options=make_options(epochs=8, batch_size=4))

    assert found.half is not None
    assert found.half.learn == found.best.learn
    half, whole = (tmp_path / name / "metrics.jsonl" for name in ("half", "round-2"))
    assert len(half.read_text().splitlines()) == 16
    assert len(whole.read_text().splitlines()) == 3 * 8
    assert found.cost == pytest.approx(10 / 10 + 4 / 4 + 3 + 1)


def test_it_stops_when_the_figure_is_reached(first: Store, tmp_path: Path) -> None:
    found = ask(first, tmp_path, until="accuracy>=0.01", half=True)

    assert found.is_reached
    assert (len(found.rounds), found.run.epochs, found.half) == (1, 1, None)


def test_a_figure_that_is_out_of_reach_leaves_all_rounds(first: Store, tmp_path: Path) -> None:
    found = ask(first, tmp_path, until="teacher_kl<=0", valid=Validation(source=pictures(), store=first))

    assert not found.is_reached
    assert len(found.rounds) == len(ROUNDS)


def test_advice_goes_on_where_it_was_interrupted(first: Store, tmp_path: Path) -> None:
    whole = ask(first, tmp_path / "whole")

    def stop(found: Round) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ask(first, tmp_path / "begun", on_round=stop)
    built = 0

    def count() -> nn.Module:
        nonlocal built
        built += 1
        return make_student()

    found = ask(first, tmp_path / "begun", make=count)

    def scores(advice: Advice) -> list[list[tuple[str, float]]]:
        return [[(trial.result.name, trial.score) for trial in each.trials] for each in advice.rounds]

    assert scores(found) == scores(whole)
    assert built == 17, "of the finished round too, whose results are read"


def test_the_learning_rate_moves_in_a_part_of_the_steps(first: Store, tmp_path: Path) -> None:
    steps = 8 * 24 // 4
    options = make_options(epochs=8, batch_size=4, schedule="step", decay_steps=(8, steps // 2), warmup_epochs=2)

    found = ask(first, tmp_path, options=options)

    assert found.best.learn.optimizer == options.learn.optimizer, "the recommended run is a whole one"


def test_a_candidate_that_fails_drops_out(first: Store, tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match="all 10 candidates failed; the first:"):
        ask(first, tmp_path, options=make_options(epochs=8, learning_rate=1e30))


def test_a_source_that_lacks_samples_is_refused_as_in_training(first: Store, tmp_path: Path) -> None:
    fewer = pictures(count=20)

    with pytest.raises(StoreMismatch, match=r"has 20. Point `source.path`"):
        advise(make_student, fewer, [first], make_options(), valid=Validation(source=pictures()), out=tmp_path)


def test_stores_without_soft_labels_and_no_store_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match="advice is on losses of soft labels"):
        advise(make_student, pictures(), [], make_options(), valid=Validation(source=pictures()), out=tmp_path)


def test_candidates_are_compared_by_the_figure_that_is_to_be_reached(first: Store, tmp_path: Path) -> None:
    with_store = Validation(source=pictures(), store=first)

    found = ask(first, tmp_path / "one", until="teacher_kl<=0", valid=with_store)

    assert found.best.result.best_by == found.run.best_by == "teacher_kl"
    other = make_options(best_by="accuracy")
    with pytest.raises(InvalidOption, match=r"Leave `run.best_by` out, or name teacher_kl there"):
        ask(first, tmp_path / "other", until="teacher_kl<=0", valid=with_store, options=other)
    with pytest.raises(InvalidOption, match=r"teacher_kl can't be measured"):
        ask(first, tmp_path / "unmeasured", until="teacher_kl<=0")
    assert not (tmp_path / "unmeasured").exists(), "before anything is trained"


def test_several_heads_are_refused(first: Store, tmp_path: Path) -> None:
    options = make_options()
    heads = replace(options.learn, head={"kind": HeadOptions()})

    with pytest.raises(InvalidOption, match=r"head: advice is on how one output"):
        ask(first, tmp_path, options=replace(options, learn=heads))


@pytest.mark.parametrize("alpha", [(), (0.0,), (1.5,)])
def test_alphas_are_over_0_and_up_to_1(alpha: tuple[float, ...]) -> None:
    with pytest.raises(InvalidOption, match=r"advise.alpha"):
        AdviseOptions(alpha=alpha)


def test_a_part_of_a_run_on_some_samples_is_of_these(first: Store, tmp_path: Path) -> None:
    found = ask(first, tmp_path, half=True, options=make_options(epochs=1, batch_size=2, max_samples=16))

    assert [each.num_samples for each in found.rounds] == [2, 4, 16]
    assert found.run.max_samples == 16


def test_samples_of_a_part_are_chosen_at_random(first: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every second sample of a source that goes through its classes in turn would be of half of them."""
    trained: list[list[int]] = []

    def watch(students: Any, source: Source, *arguments: Any, **options: Any) -> list[StudentResult]:
        trained.append([pictures().keys.index(key) for key in source.keys])
        return train_students(students, source, *arguments, **options)

    monkeypatch.setattr(advice_rounds, "train_students", watch)
    ask(first, tmp_path, half=True, options=make_options(epochs=12, batch_size=4))

    *whole, half = trained
    assert all(indices == list(range(24)) for indices in whole)
    assert len(half) == len(set(half)) == 12
    assert half == sorted(half)
    assert len(set(np.diff(half).tolist())) > 1

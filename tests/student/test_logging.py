import json
from pathlib import Path

import pytest

from softlab.errors import InvalidOption, StoreExists
from softlab.report.runs import read_run
from softlab.student.options import LogOptions
from softlab.student.train import train_students
from softlab.student.validation import Validation
from tests.student.fashion import same_weights
from tests.student.pictures import make_options, make_store, make_student, pictures, stop_at, train


def lines_of(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_the_loss_of_some_steps_stands_between_those_of_epochs(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")

    train(make_student(), store, out=tmp_path / "run", log_steps=2)  # 3 epochs of 3 steps
    train(make_student(), store, out=tmp_path / "plain")

    steps = [line for line in lines_of(tmp_path / "run") if "step_loss" in line]
    assert [line["step"] for line in steps] == [2, 4, 6, 8]
    assert [line for line in lines_of(tmp_path / "run") if "step_loss" not in line] == lines_of(tmp_path / "plain")
    assert len(read_run(tmp_path / "run").epochs["small"]) == 3


def test_a_run_that_goes_on_writes_the_same_lines(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    train(make_student(), store, out=tmp_path / "straight", log_steps=3, checkpoint_steps=3)

    with pytest.raises(KeyboardInterrupt):
        train(make_student(), store, out=tmp_path / "run", log_steps=3, checkpoint_steps=3, on_progress=stop_at(5))
    train(make_student(), store, out=tmp_path / "run", log_steps=3, checkpoint_steps=3)

    assert lines_of(tmp_path / "run") == lines_of(tmp_path / "straight")


def test_a_run_may_be_begun_anew(tmp_path: Path) -> None:
    store, out = make_store(tmp_path / "store"), tmp_path / "run"
    train(make_student(), store, out=out, epochs=2)

    longer = make_student()
    train(longer, store, out=out, epochs=3, resume="no")

    assert len(lines_of(out)) == 3
    assert not same_weights(longer, make_student())


def test_beginning_anew_touches_nothing_but_a_run(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter.txt").write_text("words")

    with pytest.raises(StoreExists, match="is not a training run"):
        train(make_student(), make_store(tmp_path / "store"), out=tmp_path / "thesis", resume="no")

    assert (tmp_path / "thesis/chapter.txt").read_text() == "words"


def test_further_validation_sources_are_measured_and_decide_nothing(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    more = {"again": Validation(source=pictures(), store=store), "plain": Validation(source=pictures())}
    train(make_student(), store, valid=store, out=tmp_path / "alone")

    (result,) = train_students(
        {"small": make_student()},
        pictures(),
        [store],
        make_options(),
        valid=Validation(source=pictures(), store=store),
        also_valid=more,
        out=tmp_path / "run",
    )

    assert result.last is not None
    assert result.also["again"] == result.last
    assert result.also["plain"].values.keys() == {"accuracy", "class_f1", "matthews", "calibration_error"}
    last = lines_of(tmp_path / "run")[-1]
    assert last["valid"] == lines_of(tmp_path / "alone")[-1]["valid"]
    assert set(last["also_valid"]) == {"again", "plain"}  # type: ignore[call-overload]


def test_steps_between_lines_are_one_or_more() -> None:
    with pytest.raises(InvalidOption, match=r"log\.log_steps = 0: expected 1 or more\. Change `log\.log_steps`"):
        LogOptions(log_steps=0)

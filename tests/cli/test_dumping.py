import math
from dataclasses import replace
from pathlib import Path

import pytest

from softlab.cli.dumping import print_summary, print_survey
from softlab.sources.source import SkippedSample
from softlab.teacher.planning import as_teacher
from softlab.teacher.survey import survey_teacher
from tests.teacher.dumping import Pictures, dump, make_options, make_teacher


def test_where_no_angle_can_be_told_a_plan_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    survey = survey_teacher(as_teacher(make_teacher()), Pictures(), make_options())
    some = replace(survey.choices[0], angle_T=(5.0, 7.0, math.nan))
    print_survey(replace(survey, choices=(some, *survey.choices[1:])), num_devices=1)

    told = " ".join(capsys.readouterr().out.split())
    assert "near uniform at T=4: no angle can be told there. Check its weights" in told
    assert "nan" not in told


def test_a_plan_with_angles_says_nothing_of_that(capsys: pytest.CaptureFixture[str]) -> None:
    for head in ("softmax", "sigmoid"):
        print_survey(survey_teacher(as_teacher(make_teacher()), Pictures(), make_options(head=head)), num_devices=1)

    assert "near uniform" not in capsys.readouterr().out


@pytest.mark.parametrize(("count", "told"), [(1, "50 (1 sample skipped)"), (2, "50 (2 samples skipped)")])
def test_skipped_samples_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str], count: int, told: str) -> None:
    skipped = tuple(SkippedSample(key=f"{number}.png", reason="broken") for number in range(count))

    print_summary(dump(tmp_path / "store", source=Pictures(skipped=skipped)))

    assert told in capsys.readouterr().out

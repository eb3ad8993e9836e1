"""Searches that were stopped, or are repeated, go on with the trials that an undisturbed one has."""

from pathlib import Path

import pytest

from softlab.disk import list_files
from softlab.errors import StoreMismatch
from softlab.store.reader import Store
from softlab.student.loop import OnProgress, TrainProgress
from softlab.student.options import LearnOptions
from softlab.student.trials import Trial
from tests.student.pictures import make_options
from tests.student.searching import find


def stop_after(steps: int) -> OnProgress:
    """A Ctrl-C after so many steps of all passes together."""
    left = iter(range(steps - 1, -1, -1))

    def on_progress(progress: TrainProgress) -> None:
        if next(left) == 0:
            raise KeyboardInterrupt

    return on_progress


def no_step(progress: TrainProgress) -> None:
    raise AssertionError("nothing should be trained")


def facts(trials: list[Trial]) -> list[tuple[str, LearnOptions, float]]:
    """All of the trials but how long they took."""
    return [(trial.result.name, trial.learn, trial.score) for trial in trials]


@pytest.mark.parametrize("stop", [1, 9, 13])  # before the first checkpoint, at the end of a pass, within the next one
def test_a_stopped_search_goes_on_with_the_same_trials(first: Store, tmp_path: Path, stop: int) -> None:
    whole = find(first, tmp_path / "whole")

    with pytest.raises(KeyboardInterrupt, match="Run the same command again"):
        find(first, tmp_path / "stopped", on_progress=stop_after(stop))
    resumed = find(first, tmp_path / "stopped")

    assert facts(resumed) == facts(whole)
    assert weights(tmp_path / "stopped") == weights(tmp_path / "whole")


def weights(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in list_files(out) if name.endswith(".safetensors")}


def test_a_finished_search_is_read_back_and_goes_on_with_more_passes(first: Store, tmp_path: Path) -> None:
    """From the eleventh trial on, the sampler chooses by the scores of the others: these are read back too."""
    options = make_options(epochs=1)
    whole = find(first, tmp_path / "whole", options=options, trials=18, together=6)

    twelve = find(first, tmp_path / "grown", options=options, trials=12, together=6)
    again = find(first, tmp_path / "grown", options=options, trials=12, together=6, on_progress=no_step)
    grown = find(first, tmp_path / "grown", options=options, trials=18, together=6)

    assert facts(again) == facts(twelve)
    assert facts(grown) == facts(whole)


def test_a_search_for_something_else_is_refused_in_the_same_folder(first: Store, tmp_path: Path) -> None:
    find(first, tmp_path, trials=2)

    with pytest.raises(StoreMismatch, match=r"pass-000: holds a run that was begun differently: .*alpha` was 0\.\d+"):
        find(first, tmp_path, trials=2, alpha=(0.0, 0.05))

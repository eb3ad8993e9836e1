import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from softlab.loading.aligned import Aligned
from softlab.loading.loader import LoaderOptions
from softlab.loading.order import in_sequence
from softlab.modalities.images.inputs import ImageInput
from tests.benchmarks.gpu import parts
from tests.benchmarks.gpu.__main__ import main
from tests.benchmarks.gpu.budget import OutOfTime, at_most
from tests.benchmarks.gpu.finding import Finding
from tests.benchmarks.gpu.parts import MINUTES, Part, measure_parts, parts_of
from tests.benchmarks.gpu.resident import ResidentLoader
from tests.benchmarks.gpu.suite import files_with_tests_of_a_gpu
from tests.benchmarks.gpu.watching import why_unknown
from tests.benchmarks.gpu.work import ON_A_CPU, RandomImages, Work
from tests.modalities.images.batches import images_in

MEASURED = "mobilenet_v3_small,student,vocabulary,language"


def rows_of(results: Path) -> list[list[str]]:
    lines = [line for line in results.read_text().splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.process
@pytest.mark.slow
def test_all_of_it_runs_small_on_a_cpu(tmp_path: Path) -> None:
    assert main(["--device", "cpu", "--out", str(tmp_path / "results.md")]) == 0

    rows = rows_of(tmp_path / "results.md")
    assert rows[0][0] == "tests"
    assert "passed" in rows[0][1] or "skipped" in rows[0][1]
    assert len(rows) == 1 + 4 + 6 + 6 + 3
    assert all(float(cell.replace(",", "")) > 0 for row in rows[1:] for cell in row[2:4])


@pytest.mark.gpu
def test_all_that_is_measured_runs_on_a_gpu(tmp_path: Path) -> None:
    work = replace(ON_A_CPU, device="cuda", autocast="bfloat16")

    found = list(measure_parts(work, only=MEASURED.split(",")))

    assert [each.what for each in found if each.has_failed] == []
    assert all(each.rate for each in found)


def test_of_images_that_stay_on_the_gpu_each_row_has_its_own_target() -> None:
    source = RandomImages(30, side=4)
    loader = ResidentLoader(
        Aligned(source=source, inputs=(ImageInput(channels=3),)),
        device=torch.device("cpu"),
        options=LoaderOptions(workers=0),
    )

    batches = [*loader.load(in_sequence(0, 30, batch_size=4)), *loader.load(in_sequence(8, 12, batch_size=4))]

    assert [batch.source_B.tolist() for batch in batches[-3:]] == [[24, 25, 26, 27], [28, 29], [8, 9, 10, 11]]
    assert all(batch.targets_B is not None and batch.targets_B.equal(batch.source_B) for batch in batches)
    assert images_in(batches[4]) is images_in(batches[0])
    assert len(images_in(batches[-2])) == 2


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Work:
    """Two parts, of which the first one fails."""

    def fail(*_: object) -> list[Finding]:
        raise RuntimeError("CUDA error: out of everything\nand a long story")

    def work(*_: object) -> list[Finding]:
        return [Finding(part="second", what="worked", rate=10.0, relative=1.0)]

    both = {"first": Part(measure=fail, seconds=20), "second": Part(measure=work, seconds=50)}
    monkeypatch.setattr(parts, "parts_of", lambda _: both)
    return ON_A_CPU


def test_a_part_that_fails_is_a_line_that_says_so_and_the_others_go_on(small: Work) -> None:
    failed, worked = measure_parts(small)

    assert failed.what == "failed: RuntimeError: CUDA error: out of everything"
    assert (failed.has_failed, worked.has_failed) == (True, False)
    assert worked.rate == 10.0


def test_a_part_that_no_longer_fits_is_said_to_be_left_out(small: Work) -> None:
    _, left_out = measure_parts(small, minutes=0.75)

    assert left_out.what == "left out: may take 50 s, and 45 s are left"


def test_a_part_is_stopped_when_its_seconds_are_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> list[Finding]:
        while True:
            try:
                pass
            except Exception as error:  # as code that turns errors into its own
                raise RuntimeError("turned into another") from error

    monkeypatch.setattr(parts, "parts_of", lambda _: {"endless": Part(measure=never, seconds=0.2)})

    (stopped,) = measure_parts(ON_A_CPU)

    assert stopped == Finding(part="endless", what="stopped after 0 s", has_failed=True)


def test_time_is_up_only_inside() -> None:
    with pytest.raises(OutOfTime, match="stopped after 0 s"), at_most(0.01):
        time.sleep(10)
    with at_most(0.05):
        pass
    time.sleep(0.1)


def test_all_parts_fit_into_the_minutes() -> None:
    assert sum(part.seconds for part in parts_of(Work()).values()) <= 60 * MINUTES


def test_tests_of_a_gpu_are_found_wherever_they_are() -> None:
    files = files_with_tests_of_a_gpu()

    assert "tests/teacher/test_forward.py" in files
    assert not any("benchmarks" in file for file in files)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            ModuleNotFoundError("nvidia-ml-py does not seem to be installed"),
            "isn't known without the package nvidia-ml-py",
        ),
        (OSError("Not Supported"), "isn't known: OSError: Not Supported"),
    ],
)
def test_why_nobody_tells_how_busy_a_gpu_is_is_told(
    monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    def refuse(*_: object) -> int:
        raise error

    monkeypatch.setattr("torch.cuda.utilization", refuse)

    assert str(why_unknown()).endswith(told)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_one_line_tells_the_way_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2

    assert capsys.readouterr().err == "cuda: there is no such GPU here. To see that all of it runs: --device cpu\n"


def test_an_unknown_part_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(SystemExit, match=r"no part labels\. There are tests, mobilenet_v3_small, student"):
        main(["--device", "cpu", "--only", "student,labels"])

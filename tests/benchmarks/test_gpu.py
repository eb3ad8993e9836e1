from pathlib import Path

import pytest

from tests.benchmarks.gpu import Work, bench_on_gpu
from tests.benchmarks.report import Report


@pytest.mark.parametrize(
    "device", [pytest.param("cpu", marks=pytest.mark.slow), pytest.param("cuda", marks=pytest.mark.gpu)]
)
def test_the_benchmark_of_a_gpu_runs_and_writes_its_table(tmp_path: Path, device: str) -> None:
    report = Report()
    work = Work(
        device=device,
        autocast="none",
        teacher="torchvision:mobilenet_v3_small",
        student="torchvision:squeezenet1_1",
        num_images=16,
        side=64,
        batch_size=4,
    )

    bench_on_gpu(report, tmp_path, work, rounds=1)

    report.write(tmp_path / "results.md")
    lines = (tmp_path / "results.md").read_text().splitlines()
    rows = [line.split("|")[1:4] for line in lines if line.startswith(("| teacher", "| student"))]
    assert len(rows) == 5
    assert all(float(cell.replace(",", "")) > 0 for row in rows for cell in row[1:])

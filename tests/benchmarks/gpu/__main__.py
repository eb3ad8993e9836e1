"""All that is done on a GPU, within some minutes: python -m tests.benchmarks.gpu"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from softlab.errors import InvalidOption
from softlab.models.device import choose_device
from tests.benchmarks.gpu.machine import describe_gpu, results_of
from tests.benchmarks.gpu.parts import MINUTES, measure_parts, parts_of, show
from tests.benchmarks.gpu.work import ON_A_CPU, Work
from tests.benchmarks.report import Report


def main(arguments: Sequence[str] | None = None) -> int:
    """0 unless a part failed or ran out of time; a bar that isn't reached is no failure."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.gpu", description=__doc__)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1; cpu does all of it small")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="parts that don't fit are left out")
    parser.add_argument("--only", help=f"parts, with commas between: {', '.join(parts_of(Work()))}")
    parser.add_argument("--out", type=Path, help="default: RESULTS-NAME.md, of a whole run; NAME is the GPU's")
    options = parser.parse_args(arguments)
    try:
        device = choose_device(options.device)
    except InvalidOption:
        print(f"{options.device}: there is no such GPU here. To see that all of it runs: --device cpu", file=sys.stderr)
        return 2
    work = Work(device=options.device) if device.type == "cuda" else ON_A_CPU
    only = _parts(options.only, work)
    report, findings = Report(machine=describe_gpu(device)), []
    for each in measure_parts(work, only=only, minutes=options.minutes):
        print(" | ".join(each.cells()), file=sys.stderr, flush=True)
        findings.append(each)
    show(report, findings, work)
    out = options.out or (results_of(device) if only is None else None)
    if out is not None:
        report.write(out)
    return int(any(each.has_failed for each in findings))


def _parts(given: str | None, work: Work) -> list[str] | None:
    if given is None:
        return None
    wanted, known = given.split(","), parts_of(work)
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise SystemExit(f"--only {given}: no part {unknown[0]}. There are {', '.join(known)}.")
    return wanted


if __name__ == "__main__":
    sys.exit(main())

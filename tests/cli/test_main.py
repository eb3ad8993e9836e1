import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from softlab.cli.main import COMMANDS, main

pytestmark = pytest.mark.process

# The program, with a file of the test's own in the place of softlab/cli/verify.py.
PROGRAM = """
import sys
import softlab.cli

softlab.cli.__path__.insert(0, sys.argv[1])
from softlab.cli.main import main

main(["verify"])
"""


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def make_input(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    stdout, stderr = process.communicate(timeout=60)
    return process.returncode, stdout, stderr


def start_verify(folder: Path, *lines: str) -> subprocess.Popen[str]:
    (folder / "verify.py").write_text("\n".join(lines))
    return start("-c", PROGRAM, str(folder))


def test_help_lists_every_command_with_its_summary(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])

    words = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert all(f"{name} {summary}" in words for name, summary in COMMANDS.items())


def test_help_does_not_wait_for_torch() -> None:
    program = "import sys, softlab.cli.main as program; program.build_app(['--help']); print('torch' in sys.modules)"

    assert make_input(start("-c", program)) == (0, "False\n", "")


def test_the_package_runs_as_a_module_and_tells_its_version() -> None:
    assert make_input(start("-m", "softlab", "--version")) == (0, f"softlab {version('softlab')}\n", "")


def test_an_unknown_command_is_wrong_usage_that_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["dump-techer"])

    assert stopped.value.code == 2
    assert "Did you mean 'dump-teacher'?" in capsys.readouterr().err


@pytest.mark.parametrize("end", [" ", "\n"])
def test_an_error_that_a_user_can_cause_is_one_line_on_stderr(end: str, tmp_path: Path) -> None:
    """Also where it tells what another package said in two."""
    process = start_verify(
        tmp_path,
        "from softlab.errors import StoreError",
        f"def verify() -> None: raise StoreError({f'store: gone.{end}Dump again.'!r})",
    )

    assert make_input(process) == (1, "", "error: store: gone. Dump again.\n")


def test_a_bug_keeps_its_traceback(tmp_path: Path) -> None:
    code, _, stderr = make_input(start_verify(tmp_path, "def verify() -> None: raise ZeroDivisionError('a bug')"))

    assert code == 1
    assert stderr.startswith("Traceback")
    assert stderr.endswith("ZeroDivisionError: a bug\n")


@pytest.mark.parametrize(
    "lines",
    [
        ["def verify() -> None: os.kill(os.getpid(), signal.SIGINT)"],
        ["os.kill(os.getpid(), signal.SIGINT)", "def verify() -> None: pass"],  # while the command is imported
    ],
)
def test_ctrl_c_is_quiet_and_130(lines: list[str], tmp_path: Path) -> None:
    assert make_input(start_verify(tmp_path, "import os, signal", *lines)) == (130, "", "")


@pytest.mark.parametrize("text", ["'a line'", "'many lines\\n' * 100_000"])
def test_an_output_that_can_t_be_written_is_one_line(text: str, tmp_path: Path) -> None:
    process = start_verify(
        tmp_path,
        "import os",
        "os.dup2(os.open('/dev/full', os.O_WRONLY), 1)",
        f"def verify() -> None: print({text})",
    )

    code, _, stderr = make_input(process)

    assert code == 1
    assert stderr == ("error: standard output: can't be written: No space left on device. Send it to another place.\n")


@pytest.mark.parametrize(("arguments", "where"), [(", 'labels/part-0'", "labels/part-0"), ("", "the system")])
def test_what_the_system_refuses_is_one_line(arguments: str, where: str, tmp_path: Path) -> None:
    process = start_verify(tmp_path, "import os", f"def verify() -> None: raise OSError(5, os.strerror(5){arguments})")

    code, _, stderr = make_input(process)

    assert code == 1
    assert stderr == f"error: {where}: Input/output error. Mend that, then run the same command again to go on.\n"


def test_a_closed_output_is_no_complaint(tmp_path: Path) -> None:
    lines = ["import os, sys", "os.close(1)", "sys.stdout = None", "from softlab.cli.main import main"]
    (tmp_path / "closed.py").write_text("\n".join([*lines, "main(['--version'])"]))

    ended = subprocess.run([sys.executable, tmp_path / "closed.py"], capture_output=True, text=True, check=False)

    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize(
    "text",
    [
        "'a line'",  # fits into Python's buffer, so that the pipe breaks only when it is flushed at the end
        "'many lines\\n' * 100_000",
    ],
)
def test_a_reader_that_has_gone_is_no_complaint(text: str, tmp_path: Path) -> None:
    process = start_verify(tmp_path, f"def verify() -> None: print({text})")
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None

    code, _, stderr = make_input(process)

    assert (code, stderr) == (1, "")

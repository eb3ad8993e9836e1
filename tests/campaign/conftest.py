"""What a campaign works with, and its counts at the end."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.campaign.commands import Workshop, make_all
from tests.campaign.counts import Counts
from tests.servers.s3 import S3Server

COUNTS = pytest.StashKey[Counts]()


@pytest.fixture(scope="session")
def counts(pytestconfig: pytest.Config) -> Counts:
    return pytestconfig.stash.setdefault(COUNTS, Counts())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("campaign") / "made"
    make_all(made)
    return made


@pytest.fixture
def workshop(made: Path, tmp_path: Path) -> Workshop:
    return Workshop(made=made, here=tmp_path / "here")


@pytest.fixture
def workshop_with_bucket(workshop: Workshop, bucket: str, s3_server: S3Server) -> Workshop:
    return replace(workshop, bucket=bucket, environment=s3_server.environment)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if COUNTS in config.stash:
        terminalreporter.section(f"campaign, seed {config.getoption('seed')}")
        terminalreporter.write_line(str(config.stash[COUNTS]))

import sys

import pytest

from tests.forks import PRELOADED, run_in_fork


def find_what_is_missing() -> None:
    sys.exit(len({name for name in PRELOADED if name != "pandas"} - sys.modules.keys()))


@pytest.mark.process
def test_a_fork_has_all_that_takes_long_to_import() -> None:
    """A name that is none is passed over in silence, and each process then imports by itself."""
    assert run_in_fork(find_what_is_missing) == 0

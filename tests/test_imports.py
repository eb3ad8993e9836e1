import gc

import pytest

from softlab.imports import uncollected


def test_the_collector_rests_while_something_is_imported_and_works_afterwards() -> None:
    with uncollected():
        assert not gc.isenabled()

    assert gc.isenabled()


def test_it_works_again_when_an_import_fails() -> None:
    with pytest.raises(ModuleNotFoundError), uncollected():
        import softlab.no_such_module  # type: ignore[import-not-found]  # noqa: F401

    assert gc.isenabled()


def test_where_it_rests_already_it_goes_on_resting() -> None:
    gc.disable()
    try:
        with uncollected():
            pass

        assert not gc.isenabled()
    finally:
        gc.enable()

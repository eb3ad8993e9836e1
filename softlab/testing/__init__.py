"""Tests that users of softlab inherit for sources, modalities, store formats and remotes of their own; needs pytest.

A subclass gives the fixtures that a contract's docstring names, and pytest runs what the contract holds:

    class TestMySource(SourceContract):
        @pytest.fixture
        def reopen(self) -> Callable[[], Source]: ...

`pytest.register_assert_rewrite("softlab.testing")` in a conftest.py makes failures show the values compared.
"""

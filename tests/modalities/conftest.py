import pytest

pytest.register_assert_rewrite("softlab.testing")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What a contract does in another process has our mark here; users of the contract have no such mark."""
    for item in items:
        if item.name == "test_a_view_is_the_same_in_another_process":
            item.add_marker(pytest.mark.process)

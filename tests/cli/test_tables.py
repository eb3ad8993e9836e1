import pytest

from softlab.cli.tables import print_columns

COLUMNS = {"student": ["small", "a large one"], "accuracy %": ["79.14", "80.20"], "KL nats": ["0.1234", "0.0987"]}


def printed(capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def test_columns_that_have_room_are_one_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "31")

    print_columns(COLUMNS, title="Students")

    assert printed(capsys) == [
        ["Students"],
        ["student", "accuracy", "%", "KL", "nats"],
        ["small", "79.14", "0.1234"],
        ["a", "large", "one", "80.20", "0.0987"],
    ]


def test_columns_that_have_none_go_into_further_tables_that_begin_with_the_same_column(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "30")

    print_columns(COLUMNS, title="Students")

    assert printed(capsys) == [
        ["Students"],
        ["student", "accuracy", "%"],
        ["small", "79.14"],
        ["a", "large", "one", "80.20"],
        ["student", "KL", "nats"],
        ["small", "0.1234"],
        ["a", "large", "one", "0.0987"],
    ]

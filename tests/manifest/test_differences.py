from softlab.manifest import differences, tell_differences


def test_what_differs_is_told_in_words() -> None:
    found = {"run": {"epochs": 2}, "students": {"small": {"seed": 1}}, "stores": ["a" * 64]}
    now = {"run": {"epochs": 3}, "students": {"large": {"seed": 1}}, "stores": ["b" * 64]}

    assert differences(found, now) == [
        "run.epochs was 2, is now 3",
        f"stores was ['{'a' * 56}.., is now ['{'b' * 56}..",
        "students.large is new",
        "students.small is no longer there",
    ]


def test_of_many_differences_the_first_are_told_and_the_others_counted() -> None:
    found = {f"option_{number:03d}": number for number in range(200)}

    told = tell_differences(differences(found, {name: value + 1 for name, value in found.items()}))

    assert len(told) < 300
    assert told.startswith("option_000 was 0, is now 1; option_001 was 1, is now 2; ")
    assert told.endswith("; and 191 more")


def test_one_difference_is_told_however_long_it_is() -> None:
    assert tell_differences(["x" * 400]) == "x" * 400


def test_fingerprints_are_short_and_come_last() -> None:
    lines = differences({"fingerprint": "a" * 64, "seed": 1}, {"fingerprint": "b" * 64, "seed": 2})

    assert tell_differences(lines) == f"seed was 1, is now 2; fingerprint was {'a' * 12}.., is now {'b' * 12}.."

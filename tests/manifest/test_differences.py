from softlab.manifest import differences, tell_differences


def test_each_leaf_that_differs_is_a_line() -> None:
    found = {"run": {"epochs": 2}, "students": {"small": {"seed": 1}}, "stores": ["a" * 64]}
    now = {"run": {"epochs": 3}, "students": {"large": {"seed": 1}}, "stores": ["b" * 64]}

    assert differences(found, now) == [
        "run.epochs was 2, is now 3",
        f"stores was ['{'a' * 56}.., is now ['{'b' * 56}..",
        "students.large is new",
        "students.small is no longer there",
    ]


def test_of_many_differences_three_are_told_and_the_others_counted() -> None:
    found = {f"option_{number:03d}": "x" * 1000 for number in range(200)}

    told = tell_differences(differences(found, dict.fromkeys(found, "y" * 1000)))

    assert len(told) < 600
    assert told.startswith("option_000 was 'xxx")
    assert told.endswith("; and 197 more")


def test_what_decides_comes_before_what_follows_from_it_in_the_words_of_options() -> None:
    lines = [
        "storage.fields.outputs/logits/logits.row_shape was [16], is now [8]",
        "outputs.logits.label_space.fingerprint was 12.., is now 13..",
        "teacher.precision was 'float32', is now 'bfloat16'",
        "outputs.logits.selection.k was 16, is now 8",
        "teacher.weights_fingerprint was 34.., is now 35..",
    ]

    assert tell_differences(lines) == (
        "the hash of the weights (`teacher.weights`) was 34.., is now 35..; `dump.k` was 16, is now 8; "
        "the precision (`device.autocast`) was 'float32', is now 'bfloat16'; and 2 more"
    )


def test_of_a_run_students_options_are_named_as_in_a_recipe() -> None:
    found = {"students": {"small": {"objective": {"loss": {"temperature": 4.0}, "teachers": {"alpha": 0.5}}}}}
    now = {"students": {"small": {"objective": {"loss": {"temperature": 2.0}, "teachers": {"alpha": 0.9}}}}}

    assert tell_differences(differences(found, now)) == (
        "`student.small.loss.temperature` was 4.0, is now 2.0; `student.small.teachers.alpha` was 0.5, is now 0.9"
    )


def test_hashes_are_short_and_told_where_nothing_else_differs() -> None:
    lines = differences({"fingerprint": "a" * 64, "seed": 1}, {"fingerprint": "b" * 64, "seed": 2})

    assert tell_differences(lines[:1]) == f"fingerprint was {'a' * 12}.., is now {'b' * 12}.."
    assert tell_differences(lines) == "seed was 1, is now 2; and 1 more"

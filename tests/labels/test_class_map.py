import re
from typing import Any

import pytest

from softlab.errors import InvalidOption, StoreMismatch
from softlab.labels.class_map import ClassesOptions, ClassMap, check_all_known, find_class_map

TEACHER = ("background", "car", "cat", "dog", "truck")


def mapped(teacher: tuple[str, ...] | None = TEACHER, *, num_classes: int = 5, **options: Any) -> ClassMap:
    return find_class_map(ClassesOptions(**options), names=teacher, num_classes=num_classes, where="pets.zarr")


@pytest.mark.parametrize(
    ("options", "groups", "names"),
    [
        ({"names": ("dog", "cat")}, ((3,), (2,)), ("dog", "cat")),
        ({"merged": {"pet": ("dog", "cat"), "vehicle": ("car", "truck")}}, ((3, 2), (1, 4)), ("pet", "vehicle")),
        ({"names": ("dog",), "merged": {"vehicle": ("car", "truck")}}, ((3,), (1, 4)), ("dog", "vehicle")),
        # A merged class that is named too keeps its place.
        ({"names": ("pet", "car"), "merged": {"pet": ("dog", "cat")}}, ((3, 2), (1,)), ("pet", "car")),
        ({"skip_first": 1}, ((1,), (2,), (3,), (4,)), TEACHER[1:]),
        # Another teacher's name for the same.
        ({"merged": {"pet": ("dog", "puppy")}}, ((3,),), ("pet",)),
        ({"merged": {"pet": (2, 3)}}, ((2, 3),), ("pet",)),
    ],
)
def test_students_have_the_classes_that_the_options_name(
    options: dict[str, Any], groups: tuple[tuple[int, ...], ...], names: tuple[str, ...]
) -> None:
    assert mapped(**options) == ClassMap(groups=groups, num_teacher=5, names=names)


def test_a_teacher_without_names_is_mapped_by_numbers() -> None:
    found = mapped(None, merged={"pet": (2, 3), "car": (1,)})

    assert found.groups == ((2, 3), (1,))
    assert (found.num_classes, found.num_left_out, found.merges) == (2, 2, True)
    assert mapped(None, num_classes=1001, skip_first=1).num_classes == 1000


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"names": ("dog", "bird", "fish")},
            StoreMismatch,
            "is the students' 'bird', 'fish' (Known: background, car, cat, dog, truck.). Name its",
        ),
        ({"names": ("dgo",)}, StoreMismatch, "is the students' 'dgo' (Did you mean dog?). Name its classes in"),
        ({"merged": {"a": ("dog",), "b": ("dog", "cat")}}, InvalidOption, "'dog' is in two of the students' classes"),
        ({"merged": {"a": (5,)}}, InvalidOption, "class 5, but its classes are 0 to 4. Correct the number"),
        ({"merged": {"a": ()}}, InvalidOption, "'a' has none of the teacher's classes. Name them, or leave it out"),
        ({"names": ("dog", "dog")}, InvalidOption, "classes.names holds 'dog' twice. Name each class once"),
        ({"skip_first": 5}, InvalidOption, "classes.skip_first = 5 leaves none of its 5 classes"),
        ({"skip_first": -1}, InvalidOption, "classes.skip_first = -1: expected 0 or more"),
        ({"skip_first": 1, "names": ("dog",)}, InvalidOption, "goes without `classes.names`"),
    ],
)
def test_a_map_that_is_none_is_refused(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message).replace(r"\.\*", ".*")):
        mapped(**options)


def test_names_for_a_teacher_without_any_are_refused_with_the_way_out() -> None:
    with pytest.raises(StoreMismatch, match=r"'dog' \(it has no names: give numbers in `classes\.merged`\)"):
        mapped(None, names=("dog",))


def test_a_name_that_no_teacher_has_is_refused() -> None:
    options = ClassesOptions(merged={"pet": ("dog", "puppy", "kat")})

    check_all_known(ClassesOptions(merged={"pet": ("dog", "puppy")}), [TEACHER, ("puppy",)])
    with pytest.raises(InvalidOption, match=r"no teacher has a class 'kat'\. Did you mean cat"):
        check_all_known(options, [TEACHER, ("puppy",)])

"""Which classes of a teacher are which of its students': some of them, in another order, several as one."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from softlab.errors import InvalidOption, StoreMismatch, first_few, suggest


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassesOptions:
    """The students' classes, where they aren't the teacher's: by name, or by what is left out."""

    names: tuple[str, ...] = ()
    """The students' classes in their order: those of the teacher with these names; default: all that it has."""

    merged: dict[str, tuple[str | int, ...]] = field(default_factory=dict)
    """Classes of students that are several of the teacher's, or have another name there, such as {vehicle = ["car",
    "truck"]}: probabilities add up. Behind those of `names`, where they aren't among them. Of a teacher without names
    the numbers of its classes, counted from 0."""

    skip_first: int = 0
    """Of the teacher's classes leave out the first ones, so many, such as a background class; students have all others
    in their order."""

    def __post_init__(self) -> None:
        if self.skip_first < 0:
            raise InvalidOption(f"classes.skip_first = {self.skip_first}: expected 0 or more. Change it.")
        if self.skip_first and (self.names or self.merged):
            raise InvalidOption("classes.skip_first goes without `classes.names` and `classes.merged`. Leave it out.")
        if len(set(self.names)) < len(self.names):
            twice = [name for name, count in Counter(self.names).items() if count > 1]
            raise InvalidOption(f"classes.names holds {first_few(twice)} twice. Name each class once.")
        empty = [name for name, group in self.merged.items() if not group]
        if empty:
            raise InvalidOption(
                f"classes.merged: {first_few(empty)} has none of the teacher's classes. Name them, or leave it out; of "
                f"classes that only hard targets teach see `distil.new_classes`."
            )

    @property
    def groups(self) -> dict[str, tuple[str | int, ...]]:
        """What each class of the students is made of, in their order."""
        return {name: (name,) for name in self.names} | self.merged

    def __bool__(self) -> bool:
        """Whether they are other classes than the teacher's at all."""
        return bool(self.names or self.merged or self.skip_first)


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassMap:
    """From the classes of one teacher to those of students."""

    groups: tuple[tuple[int, ...], ...]
    """The teacher's classes that each of the students' is."""

    num_teacher: int
    names: tuple[str, ...] | None
    """Of the students' classes."""

    @property
    def num_classes(self) -> int:
        return len(self.groups)

    @property
    def merges(self) -> bool:
        return any(len(group) > 1 for group in self.groups)

    @property
    def num_left_out(self) -> int:
        """Of the teacher's classes."""
        return self.num_teacher - sum(map(len, self.groups))


def find_class_map(options: ClassesOptions, *, names: Sequence[str] | None, num_classes: int, where: str) -> ClassMap:
    """For a teacher with these classes. Of a merged class it may lack some names, as another teacher has them.

    Raises StoreMismatch for classes of students that none of its own are, with all of them; InvalidOption for a class
    of the teacher that is in two of the students'.
    """
    if options.skip_first:
        return _without_first(options.skip_first, names=names, num_classes=num_classes, where=where)
    places = {} if names is None else {name: place for place, name in enumerate(names)}
    groups = {
        name: tuple(place for each in group if (place := _place(each, places, num_classes, where)) is not None)
        for name, group in options.groups.items()
    }
    lacking = [name for name, group in groups.items() if not group]
    if lacking:
        wanted = options.groups[lacking[0]][0]
        hint = "it has no names: give numbers in `classes.merged`" if names is None else suggest(str(wanted), names)
        raise StoreMismatch(
            f"{where}: none of the teacher's {num_classes:,} classes is the students' {first_few(lacking)} ({hint}). "
            f"Name its classes in `classes.merged`, or leave these out."
        )
    counts = Counter(place for group in groups.values() for place in group)
    twice = [place if names is None else names[place] for place, count in counts.items() if count > 1]
    if twice:
        raise InvalidOption(
            f"{where}: the teacher's class {first_few(twice)} is in two of the students' classes, so that its "
            f"probability would count twice. Leave it in one of them, in `classes.names` or `classes.merged`."
        )
    return ClassMap(groups=tuple(groups.values()), num_teacher=num_classes, names=tuple(groups))


def check_all_known(options: ClassesOptions, teachers: Sequence[Sequence[str] | None]) -> None:
    """Raises InvalidOption for a name that none of several teachers has."""
    known = [name for names in teachers for name in names or ()]
    wanted = [each for group in options.merged.values() for each in group if isinstance(each, str)]
    unknown = [name for name in wanted if name not in known]
    if unknown and known:
        raise InvalidOption(
            f"classes.merged: no teacher has a class {first_few(unknown)}. {suggest(unknown[0], known)} Correct it, or "
            f"leave it out."
        )


def _without_first(count: int, *, names: Sequence[str] | None, num_classes: int, where: str) -> ClassMap:
    if count >= num_classes:
        raise InvalidOption(f"{where}: classes.skip_first = {count:,} leaves none of its {num_classes:,} classes.")
    return ClassMap(
        groups=tuple((place,) for place in range(count, num_classes)),
        num_teacher=num_classes,
        names=None if names is None else tuple(names[count:]),
    )


def _place(wanted: str | int, places: Mapping[str, int], num_classes: int, where: str) -> int | None:
    """None for a name that this teacher hasn't."""
    if isinstance(wanted, str):
        return places.get(wanted)
    if not 0 <= wanted < num_classes:
        raise InvalidOption(
            f"{where}: classes.merged: class {wanted}, but its classes are 0 to {num_classes - 1}. Correct the number."
        )
    return wanted

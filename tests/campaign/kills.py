"""Commands that are killed at every change of a file in turn, many twice: the repeated one must come through whole."""

import itertools
import random
import signal
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import obstore

from tests.campaign.commands import COMMANDS, OLD_S, Command, Place, Workshop
from tests.campaign.counts import Try
from tests.kills import before_change, before_each_change, kill_this_process

CHANGES_OF_BUCKETS = ("put", "delete", "copy")


def kills(workshop: Workshop, chance: random.Random, *, commands: Mapping[str, Command] = COMMANDS) -> Iterator[Try]:
    """Endless: every change of every command once, in an order by chance, and then again."""
    expected: dict[str, dict[str, bytes]] = {}
    while True:
        moments = []
        for name, command in commands.items():
            expected[name], count = undisturbed(workshop, command)
            moments += [(name, number) for number in range(1, count + 1)]
        chance.shuffle(moments)
        for name, number in moments:
            second = chance.randint(1, number + 3) if chance.random() < 0.4 else None
            yield Try(
                part="kills",
                row=name,
                what=f"killed before change {number}" + (f", then before change {second}" if second else ""),
                run=partial(_kill, workshop, commands[name], expected[name], [number, second] if second else [number]),
            )


def undisturbed(workshop: Workshop, command: Command) -> tuple[dict[str, bytes], int]:
    """What the command makes, and in how many changes."""
    place, note = workshop.begin(command), workshop.made.parent / "changes.txt"
    note.write_text("0")
    outcome = place.run(command.line, fault=partial(_count_changes, place, note))
    assert outcome.code == 0, outcome
    return place.contents(), int(note.read_text())


def _kill(
    workshop: Workshop, command: Command, expected: dict[str, bytes], numbers: list[int]
) -> tuple[str, str | None]:
    place, times = workshop.begin(command), 0
    for number in numbers:
        if command.is_endless and _is_done(place, expected):
            break
        outcome = place.run(command.line, fault=partial(_die_before, place, number))
        if outcome.code not in (0, -signal.SIGKILL):
            return "", f"{outcome.complaint or 'refused'} when repeated\n{outcome.err}"
        times += outcome.code != 0
        if command.whole is not None and (outcome := place.run(command.whole)).code != 0:
            return "", f"what was there is not whole\n{outcome.out}{outcome.err}"
    return "killed twice" if times > 1 else "killed", come_through(place, command, expected)


def come_through(place: Place, command: Command, expected: dict[str, bytes]) -> str | None:
    """What is wrong with a command that is repeated, if anything is."""
    if command.waits_s:
        place.wait_for(command.waits_s)
    if not (command.is_endless and _is_done(place, expected)):
        outcome = place.run(command.line)
        if outcome.code != 0 or outcome.complaint:
            return f"{outcome.complaint or 'refused'} when repeated\n{outcome.err}"
    if command.checks is not None and (outcome := place.run(command.checks)).code != 0:
        return f"`{command.checks.split(' ')[0]}` complains\n{outcome.out}{outcome.err}"
    if command.tidies is not None:
        place.wait_for(OLD_S)
        place.run(command.tidies)
    return tell_difference(place.contents(), expected)


def tell_difference(found: dict[str, bytes], expected: dict[str, bytes]) -> str | None:
    for word, names in (
        ("left over", found.keys() - expected.keys()),
        ("lost", expected.keys() - found.keys()),
        ("other bytes", {name for name in found.keys() & expected.keys() if found[name] != expected[name]}),
    ):
        if names:
            return f"{word}\n{sorted(names)}"
    return None


def _is_done(place: Place, expected: dict[str, bytes]) -> bool:
    return place.contents().keys() == expected.keys()


def _count_changes(place: Place, note: Path) -> None:
    _before_each(place, lambda number: _write(note, number))


def _write(note: Path, number: int) -> None:
    note.write_text(str(number))


def _die_before(place: Place, number: int) -> None:
    if place.bucket:
        _before_each(place, lambda at: kill_this_process() if at == number else None)
    else:
        before_change(place.here, number, kill_this_process)


def _before_each(place: Place, act: Callable[[int], object]) -> None:
    if not place.bucket:
        before_each_change(place.here, act)
        return
    changes = itertools.count(1)
    for name in CHANGES_OF_BUCKETS:
        real = getattr(obstore, name)
        setattr(obstore, name, partial(_act_first, real, lambda: act(next(changes))))


def _act_first(real: Callable[..., Any], act: Callable[[], object], *arguments: Any, **more: Any) -> Any:
    act()
    return real(*arguments, **more)

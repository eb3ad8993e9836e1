import pytest

from softlab.card.kept_sections import TO_FILL_IN, is_generated, kept_section, with_digest, written_sections

CARD = with_digest("\n".join(["# Labels", *kept_section("contact", {}), *kept_section("licence", {}), "The end."]))


def filled_in(text: str) -> str:
    return CARD.replace(TO_FILL_IN["contact"], text)


@pytest.mark.parametrize("text", ["The vision team.", "Two lines,\n\nand # a heading.", "", "\n"])
def test_a_card_that_was_filled_in_is_still_a_generated_one(text: str) -> None:
    assert is_generated(filled_in(text))


@pytest.mark.parametrize(
    "changed",
    [
        CARD.replace("# Labels", "# Our labels"),
        CARD.replace("The end.", "The end"),
        CARD.replace("<!-- kept: contact -->", "<!-- kept: contacts -->"),
        filled_in("<!-- end --> and more"),
        CARD + "More.\n",
        CARD[: CARD.index("<!-- generated")],
        "",
    ],
)
def test_a_card_that_was_changed_elsewhere_is_not(changed: str) -> None:
    assert changed != CARD
    assert not is_generated(changed)


def test_an_editor_of_another_system_changes_nothing() -> None:
    edited = filled_in("Ask\nus.").replace("\n", "\r\n").rstrip()

    assert is_generated(edited)
    assert written_sections(edited) == {"contact": "Ask\nus."}


def test_what_was_written_is_told_by_section_and_questions_are_not() -> None:
    assert written_sections(CARD) == {}
    assert written_sections(filled_in("The vision team.")) == {"contact": "The vision team."}
    assert written_sections(filled_in(" \n")) == {}


def test_what_was_written_stands_in_the_next_card() -> None:
    assert kept_section("contact", {"contact": "Us."}) == ["<!-- kept: contact -->", "Us.", "<!-- end -->", ""]

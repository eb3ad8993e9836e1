import pytest

from softlab.cli.options import RECIPE_COMMANDS, recipe_kind
from softlab.modalities.modality import softlabs_modalities
from softlab.recipes.modality_sections import options_of_modalities
from softlab.recipes.options import option_fields
from tests.cli.program import Softlab, assert_refused


@pytest.mark.parametrize("command", RECIPE_COMMANDS)
def test_every_option_of_a_command_is_printed_with_a_text(command: str, softlab: Softlab) -> None:
    lines = softlab("options", command).out.splitlines()

    keys = [line.split()[0] for line in lines if not line.startswith(" ")]
    assert keys == [option.key for option in options_of_modalities(recipe_kind(command))]
    assert {option.key for option in option_fields(recipe_kind(command))} <= set(keys)
    followed = [after for line, after in zip(lines, [*lines[1:], ""], strict=True) if not line.startswith(" ")]
    assert all(text.startswith("    ") and text.strip() for text in followed)


def test_an_option_is_told_with_its_flag_choices_default_and_who_has_it(softlab: Softlab) -> None:
    text = softlab("options", "train-student", "loss").out

    assert "loss.temperature   --temperature\n" in text
    assert "default: 4, of many classes 1." in text
    assert "(default: uniform)" in text
    assert "Of symmetric_kl." in text
    assert "One of kl, reverse_kl," in text
    assert "run.epochs" not in text


def test_named_sections_are_told_too(softlab: Softlab) -> None:
    text = softlab("options", "train-student").out

    assert "student.NAME.inherit.map\n" in text
    assert "feature.NAME.projector\n" in text


@pytest.mark.parametrize("command", ["dump-teacher", "train-student", "train-teacher", "evaluate"])
def test_the_options_of_each_modality_are_told_and_whose_they_are(command: str, softlab: Softlab) -> None:
    options = softlab("options", command, "input").out.split("\ninput.")
    of = {option.split()[0]: " ".join(option.split()).rpartition(" Of ")[2] for option in options}

    names = ["images", *(name for name in softlabs_modalities() if name != "images")]
    assert f"One of {', '.join(names)}. (default: images)" in " ".join(options[0].split())
    assert of["size"] == of["mean"] == "images, pairs."
    assert of["tokenizer"] == "pairs, text, tokens."
    assert of["pair_field"] == "text."
    assert of["messages_field"] == "tokens."


def test_what_views_of_each_modality_are_made_of_is_told(softlab: Softlab) -> None:
    text = softlab("options", "dump-teacher", "augment").out

    assert (
        text.count("augment.seed\n    Of everything that is drawn. (default: 0) Of images, audio, pairs, text.\n") == 1
    )
    assert "augment.mixup\n" in text
    assert "augment.drop\n" in text


def test_a_command_or_section_that_there_is_not_is_refused(softlab: Softlab) -> None:
    assert_refused(softlab("options", "train-studnt"), "Did you mean train-student?")
    assert_refused(softlab("options", "push"), "`softlab push --help`")
    assert_refused(softlab("options", "train-student", "los"), "Did you mean loss")


def test_train_teacher_has_no_options_of_distillation(softlab: Softlab) -> None:
    text = softlab("options", "train-teacher").out

    assert "optimizer.learning_rate" in text
    assert not any(name in text for name in ("loss.", "teachers.", "distil.", "feature.", "check."))

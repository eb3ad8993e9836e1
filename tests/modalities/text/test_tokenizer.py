import json
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from softlab.errors import InvalidOption, StoreMismatch
from softlab.modalities.text.inputs import TextInput
from softlab.modalities.text.tokenizer import identity_of, read_tokenizer, train_tokenizer
from tests.modalities.text.reviews import TEXTS, save_tokenizer, word_tokenizer

TRAINING = "from tests.modalities.text.test_tokenizer import *; print(train_tokenizer(TEXTS, vocab_size=120))"


def test_a_folder_tells_the_pad_token_and_the_longest_text(tmp_path: Path) -> None:
    found = read_tokenizer(TextInput(tokenizer=str(save_tokenizer(tmp_path))))

    assert (found.pad_id, found.max_length, found.tells_texts_apart) == (0, 24, True)
    assert found.encode("a fine film", None).tokens == ["[CLS]", "a", "fine", "film", "[SEP]"]


def test_a_file_is_read_too_and_what_the_options_say_counts(tmp_path: Path) -> None:
    word_tokenizer().save(str(tmp_path / "words.json"))

    found = read_tokenizer(TextInput(tokenizer=str(tmp_path / "words.json"), max_length=4, truncation="left"))

    assert found.encode("a fine film", None).tokens == ["[CLS]", "fine", "film", "[SEP]"]


def test_identity_is_of_what_a_tokenizer_does_and_not_of_its_file() -> None:
    padded = word_tokenizer()
    padded.enable_padding(pad_id=0, length=40)
    padded.enable_truncation(7)
    changed = word_tokenizer()
    changed.pre_tokenizer = None
    added = word_tokenizer()
    added.add_tokens(["wonderful"])

    padded.no_padding()
    padded.no_truncation()
    identities = [identity_of(each) for each in (word_tokenizer(), padded, changed, added)]

    assert identities[0] == identities[1]
    assert len(set(identities)) == 3


def test_a_file_that_was_written_after_a_padded_call_is_the_same_tokenizer(tmp_path: Path) -> None:
    plain, padded = save_tokenizer(tmp_path / "plain"), save_tokenizer(tmp_path / "padded")
    tokenizer = word_tokenizer()
    tokenizer.enable_padding(pad_id=0, length=40)
    tokenizer.enable_truncation(7)
    tokenizer.save(str(padded / "tokenizer.json"))

    one, other = (read_tokenizer(TextInput(tokenizer=str(folder))) for folder in (plain, padded))

    assert (plain / "tokenizer.json").read_bytes() != (padded / "tokenizer.json").read_bytes()
    assert one.identity == other.identity


def test_a_changed_added_token_is_refused_where_another_one_was_recorded(tmp_path: Path) -> None:
    folder = save_tokenizer(tmp_path)
    before = read_tokenizer(TextInput(tokenizer=str(folder)))
    tokenizer = word_tokenizer()
    tokenizer.add_tokens(["wonderful"])
    save_tokenizer(tmp_path, tokenizer)

    with pytest.raises(StoreMismatch, match=rf"tokenizer .*: has changed \(.* recorded is {before.identity[:12]}"):
        read_tokenizer(TextInput(tokenizer=str(folder), identity=before.identity))


@pytest.mark.process
def test_the_same_texts_train_the_same_tokenizer_in_any_process() -> None:
    root = Path(__file__).parents[3]
    other = subprocess.run([sys.executable, "-c", TRAINING], cwd=root, check=True, capture_output=True, text=True)

    assert other.stdout.strip() == train_tokenizer(TEXTS, vocab_size=120)


def test_a_trained_tokenizer_knows_the_words_of_its_texts() -> None:
    options = TextInput(tokenizer="train:120", trained=train_tokenizer(TEXTS, vocab_size=120))

    found = read_tokenizer(options)

    assert len(TEXTS) < found.vocab_size <= 120
    assert found.encode("A dull FILM", None).tokens == ["[CLS]", "▁a", "▁dull", "▁film", "[SEP]"]
    assert found.encode("a film", "a book").type_ids == [0, 0, 0, 0, 1, 1, 1]


def refused(options: TextInput, message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        read_tokenizer(options)


def test_a_tokenizer_without_a_pad_token_is_refused_unless_one_is_named(tmp_path: Path) -> None:
    tokenizer = word_tokenizer(special=["<end>", "[UNK]", "[CLS]", "[SEP]"])
    folder = str(save_tokenizer(tmp_path, tokenizer, pad_token=None))

    refused(TextInput(tokenizer=folder), r"has no pad token, so that texts of different length can't share a batch")
    refused(TextInput(tokenizer=folder, pad_token="<fin>"), r"has no token '<fin>'")
    assert read_tokenizer(TextInput(tokenizer=folder, pad_token="<end>")).pad_id == 0


def test_a_slow_tokenizer_is_refused_with_how_to_convert_it(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n")

    refused(TextInput(tokenizer=str(tmp_path)), r"has no tokenizer.json, as a fast tokenizer has. Convert it once")


def test_a_damaged_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = save_tokenizer(tmp_path)
    (folder / "tokenizer.json").write_text(json.dumps({"model": 3}))

    refused(TextInput(tokenizer=str(folder)), r"tokenizer.json: can't be read as a tokenizer")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "`input.tokenizer` is missing"),
        ({"tokenizer": "train:120"}, "is trained where a model is trained, and there is none here"),
        ({"tokenizer": "train:120", "trained": "\n"}, "input.trained: is damaged"),
    ],
)
def test_a_tokenizer_that_is_not_there_is_refused(options: dict[str, str], message: str) -> None:
    refused(TextInput(**options), message)  # type: ignore[arg-type]


def test_a_length_without_room_for_a_text_is_refused(tmp_path: Path) -> None:
    refused(TextInput(tokenizer=str(save_tokenizer(tmp_path)), max_length=2), r"2 special tokens leave no room")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokenizer": "train:many"}, "expected a number of tokens, 16 or more"),
        ({"max_length": 0}, "lets no token in"),
        ({"truncation": "middle"}, "is no side of a text"),
        ({"field": "one", "pair_field": "one"}, "is the first text too"),
    ],
)
def test_options_that_can_not_be_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        TextInput(**options)  # type: ignore[arg-type]


def test_the_probe_texts_leave_no_trace(tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    before = tokenizer.to_str()

    identity_of(tokenizer)

    assert tokenizer.to_str() == before


def test_missing_tokenizers_say_how_to_install_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_tokenizer(tmp_path)
    monkeypatch.setitem(sys.modules, "tokenizers", None)  # Python then says that it can't be imported

    refused(TextInput(tokenizer=str(folder)), r"texts need tokenizers. Install it: pip install 'softlab\[text\]'")

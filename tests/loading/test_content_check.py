import re
from pathlib import Path

import pytest
from torch import nn

from softlab.errors import OddSource
from softlab.loading import content_check
from softlab.loading.content_check import duplicates_note, overlap_note
from softlab.modalities.opening import open_source
from softlab.store import reader
from softlab.store.reader import open_store
from softlab.teacher.dump import dump_teacher
from softlab.teacher.options import DumpOptions
from tests.sources.pictures import animals, encoded, picture, write_folder


def test_samples_that_are_there_twice_are_told_when_they_are_dumped(tmp_path: Path) -> None:
    one = encoded(picture(seed=9))
    write_folder(animals(tmp_path / "animals"), {"cat/x.png": one, "dog/x.png": one})
    source = open_source(tmp_path / "animals")

    with pytest.warns(OddSource, match=r"1 of 6 samples have the content of another one, 1 of them with another label"):
        dump_teacher(nn.Sequential(nn.Flatten(), nn.Linear(6 * 4 * 3, 2)), source, tmp_path / "store", DumpOptions(k=2))


def test_samples_that_are_trained_on_and_measured_on_are_told(tmp_path: Path) -> None:
    train = open_source(animals(tmp_path / "train"))
    leaked = encoded(picture(seed=0))
    valid = open_source(write_folder(tmp_path / "valid", {"cat/9.png": leaked, "dog/0.png": encoded(picture(seed=50))}))
    dump_teacher(nn.Sequential(nn.Flatten(), nn.Linear(6 * 4 * 3, 2)), train, tmp_path / "store", DumpOptions(k=2))
    store = open_store(tmp_path / "store")

    assert "1 of 2 samples that were looked at are also in folder:train" in overlap_note(valid, None, train, store)
    assert overlap_note(valid, None, train, None) == ""
    assert "4 of 4 samples" in overlap_note(train, None, train, None)


def test_of_very_many_samples_some_contents_are_looked_at_and_all_that_have_one_of_those(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = {f"cat/{number:03d}.png": encoded(picture(seed=number // 2)) for number in range(200)}
    source = open_source(write_folder(tmp_path / "twice", pictures | {"dog/0.png": encoded(picture(seed=0))}))
    with pytest.warns(OddSource, match="101 of 201 samples have the content of another one, 1 of them with another"):
        dump_teacher(nn.Sequential(nn.Flatten(), nn.Linear(6 * 4 * 3, 2)), source, tmp_path / "store", DumpOptions(k=2))
    monkeypatch.setattr(reader, "LARGE_TABLE", 0)
    monkeypatch.setattr(content_check, "COMPARED", 100)

    told = duplicates_note(source, open_store(tmp_path / "store"))
    found = re.search(r": (\d+) of (\d+) samples that were looked at have the content", told)
    assert found is not None
    twice, looked_at = map(int, found.groups())
    assert 50 < looked_at < 150
    assert looked_at // 2 <= twice <= looked_at // 2 + 1

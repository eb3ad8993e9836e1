from pathlib import Path

from softlab.remote.conditions import honours_conditions
from softlab.remote.folder import FolderBackend
from softlab.remote.remote import Remote


class Careless(FolderBackend):
    def create(self, path: str, data: bytes) -> bool:
        self.write(path, data)
        return True


def test_a_place_that_creates_an_object_once_is_told_from_one_that_replaces_it(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()

    assert honours_conditions(Remote("r", FolderBackend(tmp_path)), probe="kept/plan.json")
    assert not honours_conditions(Remote("r", Careless(tmp_path)), probe="kept/plan.json")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from softlab.errors import AccessDenied, DamagedStore, NotAStore, RemoteFailed
from softlab.identity import digest_of
from softlab.remote import clients
from softlab.remote.remote import Remote
from softlab.store import read_ahead
from softlab.store.published import SIGNATURE_NAME, VERSION_NAME
from softlab.store.verify import verify_store
from tests.servers.faulty import FaultyServer, answering, running_faulty
from tests.servers.s3 import READER_KEY, READER_SECRET
from tests.servers.web import serving
from tests.store.building import contents, flip_byte, make_plan, write_store
from tests.store.remote import publish, upload

CREDENTIALS = {
    "AWS_ALLOW_HTTP": "true",
    "AWS_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": READER_KEY,
    "AWS_SECRET_ACCESS_KEY": READER_SECRET,
}
DENIED = answering(403, b"<Error><Code>AccessDenied</Code></Error>")
LOGITS, IDS = "outputs/logits/logits/c/1/0/0", "outputs/logits/class_ids/c/0/1/0"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_store(tmp_path / "store", make_plan())
    return tmp_path / "store"


def spoil(root: Path, remote: Remote) -> None:
    flip_byte(root / LOGITS)
    remote.write(LOGITS, (root / LOGITS).read_bytes())
    remote.write("samples.parquet", b"short")
    remote.delete([IDS])
    remote.write("outputs/logits/notes.txt", b"not ours")


def test_a_store_in_a_bucket_is_intact_as_it_was_uploaded(root: Path, bucket: str) -> None:
    upload(root, f"{bucket}/labels")
    seen: list[tuple[int, int]] = []

    report = verify_store(f"{bucket}/labels", on_file=lambda done, total: seen.append((done, total)))

    assert report == verify_store(root)
    assert report.is_intact
    assert seen == [(number, report.num_files) for number in range(1, report.num_files + 1)]


def test_damaged_missing_and_foreign_objects_are_listed(root: Path, bucket: str) -> None:
    spoil(root, upload(root, bucket))

    report = verify_store(bucket)

    assert sorted(report.damaged) == [LOGITS, "samples.parquet"]
    assert (report.missing, report.foreign) == ([IDS], ["outputs/logits/notes.txt"])


def test_what_belongs_beside_a_manifest_is_not_foreign(root: Path, bucket: str) -> None:
    remote = upload(root, bucket)
    for name in (VERSION_NAME, SIGNATURE_NAME):
        (root / name).write_bytes(b"{}")
    for name in (VERSION_NAME, SIGNATURE_NAME, "README.md", "push.json"):
        remote.write(name, b"{}")

    assert verify_store(root).is_intact
    assert verify_store(bucket).is_intact


def test_on_a_web_server_foreign_files_are_not_looked_for(root: Path, tmp_path: Path) -> None:
    flip_byte(root / LOGITS)
    (root / IDS).unlink()
    (root / "notes.txt").write_text("not ours")

    with serving(tmp_path) as url:
        report = verify_store(f"{url}/store")

    assert (report.damaged, report.missing, report.foreign, report.is_listed) == ([LOGITS], [IDS], [], False)
    assert not report.is_intact


@pytest.fixture
def readable(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    """The store at s3://readable, whose objects one may read but not list: what is missing is then denied."""
    with running_faulty({f"readable/{path}": data for path, data in contents(root).items()}) as server:
        for name, value in CREDENTIALS.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        server.faults["readable"] = DENIED
        yield server


def test_those_who_may_not_list_a_bucket_don_t_see_foreign_files(readable: FaultyServer) -> None:
    report = verify_store("s3://readable")

    assert report.is_intact
    assert not report.is_listed


def test_what_those_who_may_not_list_are_denied_is_missing(readable: FaultyServer) -> None:
    readable.faults[f"readable/{LOGITS}"] = DENIED

    report = verify_store("s3://readable")

    assert (report.damaged, report.missing) == ([], [LOGITS])


def test_rights_that_end_meanwhile_are_no_damage(readable: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_ahead, "MAX_THREADS", 1)

    def end_rights(done: int, total: int) -> None:
        readable.faults |= dict.fromkeys(readable.objects, DENIED)

    with pytest.raises(AccessDenied, match="Check that your credentials"):
        verify_store("s3://readable", on_file=end_rights)


def test_a_published_version_is_verified_by_its_name(root: Path, tmp_path: Path) -> None:
    record = publish(root, str(tmp_path / "place"))

    assert verify_store(f"{tmp_path / 'place'}/pets@1").digest == record.digest


def test_another_store_in_the_place_of_a_published_one_is_refused(root: Path, tmp_path: Path) -> None:
    publish(root, str(tmp_path / "place"), digest=digest_of(b"another"))

    with pytest.raises(DamagedStore, match=re.escape("Don't use it; tell whoever published it.")):
        verify_store(f"{tmp_path / 'place'}/pets@1")


def test_there_must_be_a_store(bucket: str) -> None:
    with pytest.raises(NotAStore, match=re.escape("Check the address")):
        verify_store(f"{bucket}/nothing")


def test_a_server_that_goes_away_is_no_damage(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "RETRIES", clients.RETRIES | {"max_retries": 0})
    monkeypatch.setattr(read_ahead, "MAX_THREADS", 1)

    with ExitStack() as stack:
        url = stack.enter_context(serving(root))
        with pytest.raises(RemoteFailed):
            verify_store(url, on_file=lambda done, total: stack.close())

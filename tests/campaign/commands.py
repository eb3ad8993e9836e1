"""The table of commands, each on small real stores; what they begin with, and how their results are compared."""

import os
import re
import shutil
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from softlab.disk import list_files
from softlab.remote.address import parse_address
from softlab.remote.connect import connect
from softlab.store.published import version_path
from softlab.store.reader import open_store
from tests.campaign.predictions import make_predictions
from tests.campaign.programs import Fault, Outcome, Program, run_program, softlab
from tests.campaign.weights import make_weights
from tests.cli.program import DATA
from tests.kills import before_change, kill_this_process
from tests.sharing.signing.key_files import write_key
from tests.store.building import FORMATS, make_plan, write_store
from tests.store.parts import few_samples_are_very_many, in_its_format
from tests.store.unit_stores import fill, make_unit_plan, write_units

SOURCE = f"--source {DATA / 'train'} --set source.limit=12 --mean 0.286 --std 0.353 --device cpu --workers 0"
TEACHER = f"--teacher softlab:grey_resnet --weights {DATA / 'teacher.safetensors'}"
DUMP = f"{TEACHER} {SOURCE} --k 4 --set dump.shard_rows=8 --feature pool=pool --augment RandomHorizontalFlip()"
STUDENT = "--student small=softlab:grey_mlp --epochs 3 --batch-size 6 --set log.checkpoint_steps=1"
TRAIN = f"train-student --out {{here}}/run --store {{made}}/two {SOURCE} {STUDENT} --set cache.dir={{here}}/cache"
ADVISE = (
    f"advise {{made}}/two --out {{here}}/run {SOURCE} --student small=softlab:grey_mlp --epochs 3 --batch-size 6 "
    f"--valid {DATA / 'test'} --set valid.limit=12 --set advise.temperature=[1] --set advise.alpha=[1] "
    "--set cache.dir={here}/cache"
)
ADVISED = "report {here}/run/round-0 {here}/run/round-2 {here}/run/half --out {here}/cache/report"
OUTPUTS = (
    f"--teacher tests.campaign.teachers:several {SOURCE} --k 3 --output tokens --output page --output states:values "
    "--output pooled:values --set dump.values_coding=int8 --set dump.shard_rows=8 --augment RandomHorizontalFlip()"
)
IMPORT = (
    f"import {{made}}/predictions-npz/p.npz --kind probabilities --source {DATA / 'train'} --limit 12 "
    "--out {here}/out --k 4 --shard-rows 4"
)
FORMAT_1 = Path(__file__).parents[1] / "fixtures/format_1"
LICENCE = "--licence CC0-1.0 --terms none"
IGNORED = re.compile(r"^cache/|/tensorboard/|/push-[0-9a-f]{32}\.json$")
"""Caches, curves, and leases of pushes that may go on for all that others know: `gc` removes them when they are old."""

OLD_S = 30 * 86_400


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """Of softlab, with {made} for the folder of what was made before and {here} for an empty one of its own."""

    line: str

    begins: str | None = None
    """What of {made} is copied to {here} first."""

    whole: str | None = None
    """A command that holds at any moment."""

    checks: str | None = None
    """A command that holds afterwards."""

    in_bucket: bool = False
    """Whether {bucket} is what it changes."""

    waits_s: float = 0.0
    """Before it is repeated: leases of others are respected so long."""

    tidies: str | None = None
    """A command that removes what a process which was killed left, once it is old."""

    is_endless: bool = False
    """Whether the same command, once it has ended, does more."""


VERIFY_OUT, REPORT = "verify {here}/out", "report {here}/run --out {here}/cache/report"
GC = "gc {here}/labels --older-than 1h"
COMMANDS = {
    "dump": Command(line=f"dump-teacher --out {{here}}/out --views 2 {DUMP}", checks=VERIFY_OUT),
    "dump parquet": Command(line=f"dump-teacher --out {{here}}/out --format parquet {DUMP}", checks=VERIFY_OUT),
    "views 3": Command(
        line=f"dump-teacher --out {{here}}/two --views 3 {DUMP}",
        begins="two",
        whole="verify {here}/two",
        checks="verify {here}/two",
    ),
    "views +1": Command(
        line=f"dump-teacher --out {{here}}/two --views +1 {DUMP}",
        begins="two",
        whole="verify {here}/two",
        checks="verify {here}/two",
        is_endless=True,
    ),
    "finalize": Command(line="finalize {here}/shares", begins="shares", checks="verify {here}/shares"),
    "convert": Command(line="convert {made}/two {here}/out --format parquet", checks=VERIFY_OUT),
    "convert from parquet": Command(line="convert {made}/parquet {here}/out --format zarr", checks=VERIFY_OUT),
    "sign": Command(
        line="sign {here}/two --key {made}/key.pem",
        begins="two",
        whole="verify {here}/two",
        checks="verify {here}/two --signer {made}/key.pub",
    ),
    "sign again": Command(
        line="sign {here}/signed --key {made}/key.pem --replace",
        begins="signed",
        whole="verify {here}/signed --signer {made}/key.pub",
        checks="verify {here}/signed --signer {made}/key.pub",
    ),
    "sign a version": Command(
        line="sign {here}/labels/pets@1 --key {made}/key.pem",
        begins="labels",
        whole="verify {here}/labels/pets@1",
        checks="verify {here}/labels/pets@1 --signer {made}/key.pub",
    ),
    "pull": Command(line="pull {made}/labels/pets@1 {here}/out --jobs 1", checks=VERIFY_OUT),
    "pull samples": Command(
        line="pull {made}/labels/pets@1 {here}/out --jobs 1 --samples {made}/keys.txt", checks=VERIFY_OUT
    ),
    "pull views": Command(
        line="pull {made}/labels/pets@1 {here}/out --jobs 1 --views 1 --features none", checks=VERIFY_OUT
    ),
    "push": Command(
        line=f"push {{made}}/two {{here}}/labels/pets {LICENCE} --jobs 1",
        checks="verify {here}/labels/pets@1",
        tidies=GC,
    ),
    "push another": Command(
        line=f"push {{made}}/parquet {{here}}/labels/pets {LICENCE} --jobs 1",
        begins="labels",
        whole="verify {here}/labels/pets@1",
        checks="verify {here}/labels/pets@2",
        tidies=GC,
    ),
    "push to a bucket": Command(
        line=f"push {{made}}/two {{bucket}}/pets {LICENCE} --jobs 1",
        checks="verify {bucket}/pets@1 --sweep",
        in_bucket=True,
    ),
    "gc": Command(
        line="gc {here}/given-up --older-than 1h",
        begins="given-up",
        whole="verify {here}/given-up/pets@1",
        checks="verify {here}/given-up/pets@1",
        waits_s=OLD_S,
    ),
    "dump outputs": Command(line=f"dump-teacher --out {{here}}/out --views 2 {OUTPUTS}", checks=VERIFY_OUT),
    "views of outputs": Command(
        line=f"dump-teacher --out {{here}}/outputs --views 3 {OUTPUTS}",
        begins="outputs",
        whole="verify {here}/outputs",
        checks="verify {here}/outputs",
    ),
    "convert outputs": Command(line="convert {made}/outputs {here}/out --format parquet", checks=VERIFY_OUT),
    "pull views of outputs": Command(
        line="pull {made}/outputs {here}/out --jobs 1 --views 1 --features states", checks=VERIFY_OUT
    ),
    "import": Command(line=IMPORT, checks=VERIFY_OUT),
    "convert parts": Command(line="convert {made}/parts-zarr {here}/out --format parquet", checks=VERIFY_OUT),
    "pull parts": Command(line="pull {made}/parts-parquet {here}/out --jobs 1 --views 1", checks=VERIFY_OUT),
    "import to parquet": Command(
        line=IMPORT.replace("p.npz", "p.jsonl").replace("-npz", "-jsonl") + " --format parquet", checks=VERIFY_OUT
    ),
    "export parquet": Command(line="export {made}/two {here}/t.parquet", is_endless=True),
    "export npz": Command(line="export {made}/two {here}/t.npz", is_endless=True),
    "train": Command(line=TRAIN, checks=REPORT),
    "train anew": Command(line=f"{TRAIN} --resume no", begins="run", checks=REPORT),
    "advise": Command(line=ADVISE, checks=ADVISED),
}


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """Where a campaign works: what was made before it, and one folder for what is tried now."""

    made: Path
    here: Path
    bucket: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    """With credentials, where there is a bucket."""

    def begin(self, command: Command) -> "Place":
        """An empty folder, but for what the command begins with."""
        shutil.rmtree(self.here, ignore_errors=True)
        self.here.mkdir(parents=True)
        if command.begins is not None:
            shutil.copytree(self.made / command.begins, self.here / command.begins)
        if not command.in_bucket:
            return Place(made=self.made, here=self.here)
        remote = connect(parse_address(self.bucket))
        remote.delete([each.path for each in remote.list_objects()])
        return Place(made=self.made, here=self.here, bucket=self.bucket, environment=self.environment)

    def begin_with(self, name: str, *, number: int) -> "Place":
        """A folder that holds something of {made} under the name it has there; there may be many such at once."""
        here = self.here / f"{number:02d}"
        shutil.rmtree(here, ignore_errors=True)
        shutil.copytree(self.made / name, here / name)
        return Place(made=self.made, here=here)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Of one try."""

    made: Path
    here: Path
    bucket: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(self, line: str, *, fault: Fault | None = None) -> Outcome:
        return run_program(self.command(line), self.made.parent, environment=self.environment, fault=fault)

    def command(self, line: str) -> Program:
        filled = line.format(made=self.made, here=self.here, bucket=self.bucket)
        return softlab(*filled.split(" "))

    def contents(self, *, below: str = "") -> dict[str, bytes]:
        """What a command made, apart from what tells when and by whom, and from curves and caches."""
        paths = [path for path in list_files(self.here) if path.startswith(below)]
        found = {path: (self.here / path).read_bytes() for path in paths}
        if self.bucket:
            remote = connect(parse_address(self.bucket))
            found |= {each.path: remote.read(each.path, max_bytes=1 << 24) for each in remote.list_objects()}
        kept = {path: data for path, data in found.items() if not IGNORED.search(path)}
        return {path: _timeless(path, data) for path, data in kept.items()}

    def wait_for(self, seconds: float) -> None:
        """Until so much later, for all that files tell."""
        then = time.time() - seconds
        for name in list_files(self.here):
            os.utime(self.here / name, (then, then))


def _timeless(path: str, data: bytes) -> bytes:
    if path.endswith(("signature.json", ".sig")):
        return b""  # another one each time; it is checked
    if path.endswith((".json", ".jsonl", ".html", ".md")):
        data = re.sub(rb'("\w*seconds": ?)[-+.e\d]+', rb"\1", data)
        data = re.sub(rb'("writer": ?)"[0-9a-f]+"', rb"\1", data)
        data = re.sub(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ|\d{4}-\d\d-\d\d", rb"", data)
    return data


def make_all(made: Path) -> None:
    """Everything that commands begin with."""
    made.mkdir()
    place = Place(made=made, here=made)
    keys = write_key(made)
    assert keys.public == made / "key.pub"
    for line in (
        f"dump-teacher --out {{made}}/two --views 2 {DUMP}",
        f"dump-teacher --out {{made}}/shares --shards 0/1 {DUMP}",
        f"dump-teacher --out {{made}}/parquet --format parquet --set dump.coding=uint8 {DUMP}",
        f"dump-teacher --out {{made}}/outputs --views 2 {OUTPUTS}",
        "convert {made}/outputs {made}/outputs-parquet --format parquet",
        f"push {{made}}/two {{made}}/labels/pets {LICENCE}",
        f"push {{made}}/two {{made}}/given-up/pets {LICENCE}",
        f"push {{made}}/parquet {{made}}/given-up/pets {LICENCE}",
        "pull {made}/two {made}/signed",
        "sign {made}/signed --key {made}/key.pem",
        TRAIN,
        f"{TRAIN.replace('{here}/run', '{made}/validated')} --valid {DATA / 'test'} --epochs 1",
    ):
        outcome = place.run(line)
        assert outcome.code == 0, outcome
    for path in (made / "given-up" / version_path("pets", 2)).parent.glob("2.*"):
        path.unlink()  # as if it had never been finished, and long ago
    shutil.copytree(made / "run", made / "finished")
    die = partial(before_change, made, 60, kill_this_process)
    stopped = place.run(TRAIN.replace("{here}/run", "{made}/stopped"), fault=die)
    assert stopped.code == -signal.SIGKILL, stopped
    for format in FORMATS:
        write_units(made / f"units-{format}", fill(make_unit_plan([2, 0, 3, 1], format=format), [2, 0, 3, 1]))
        with few_samples_are_very_many():
            write_store(made / f"parts-{format}", in_its_format(make_plan(format=format)))
        sampled = make_unit_plan([2, 0, 3, 1], format=format, is_sampled=True, classes=("page", "tokens"))
        write_units(made / f"sampled-{format}", fill(sampled, [2, 0, 3, 1]))
    shutil.copytree(FORMAT_1, made / "format_1")
    make_predictions(made)
    make_weights(made)
    replace(place, here=made / "given-up").wait_for(OLD_S)
    keys_of_store = open_store(made / "two").read_samples().keys
    (made / "keys.txt").write_text("".join(f"{keys_of_store[number]}\n" for number in (0, 5, 9)))

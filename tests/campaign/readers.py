"""The table of what reads a store, a published version or a run, each with what its result is."""

import hashlib
import re
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from softlab.card.render import CARD_NAME
from softlab.errors import SoftlabError
from softlab.store.cache import CacheOptions
from softlab.store.reader import Store, open_store
from tests.campaign.commands import IMPORT, SOURCE, TRAIN, Place
from tests.campaign.programs import Outcome, Program


@dataclass(frozen=True, kw_only=True, slots=True)
class Reader:
    """A command with {store} for what it reads, or all that the library gives of it."""

    line: str | None = None

    made: str | None = None
    """What of {here} is its result, beside what it prints."""

    pattern: str = "(?s).*"
    """What of that counts."""

    is_slow: bool = False
    """Whether it is asked a fifth as often as others."""

    def program(self, place: Place, store: str) -> Program:
        if self.line is None:
            return partial(read_all, place.here / store)
        return place.command(self.line.replace("{store}", f"{{here}}/{store}"))

    def result(self, place: Place, outcome: Outcome) -> object:
        """In a place of the same name it is the same for the same store."""
        if self.made is None:
            return re.findall(self.pattern, outcome.out)
        made = place.contents(below=self.made)
        return {path: data for path, data in made.items() if not path.endswith(CARD_NAME)}  # which a person may edit


STORE_READERS = {
    "read": Reader(),
    "inspect": Reader(line="inspect {store}"),
    "progress": Reader(line="progress {store}"),
    "inspect --rows": Reader(line="inspect {store} --rows 3"),
    "verify": Reader(line="verify {store}"),
    "convert": Reader(line="convert {store} {here}/out --format parquet", made="out/"),
    "pull": Reader(line="pull {store} {here}/out --jobs 2", made="out/"),
    "pull samples": Reader(line="pull {store} {here}/out --jobs 2 --samples {made}/keys.txt", made="out/"),
    "train": Reader(line=TRAIN.replace("{made}/two", "{store}"), made="run/small/last.safe", is_slow=True),
    "push": Reader(line="push {store} {here}/to/pets --licence CC0-1.0 --terms none", made="to/", is_slow=True),
}
PLAIN_READERS = {
    name: STORE_READERS[name] for name in ("read", "inspect", "inspect --rows", "verify", "convert", "pull")
}
VERSION_READERS = {
    "inspect": Reader(line="inspect {store}/pets@1"),
    "verify": Reader(line="verify {store}/pets@1"),
    "pull": Reader(line="pull {store}/pets@1 {here}/out --jobs 2", made="out/"),
    "catalog": Reader(line="catalog {store}"),
    "push another": Reader(line="push {made}/parquet {store}/pets --licence CC0-1.0 --terms none"),
    "gc": Reader(line="gc {store} --older-than 1h"),
}
SIGNED_READERS = {
    "verify": Reader(line="verify {store} --signer {made}/key.pub"),
    "pull": Reader(line="pull {store} {here}/out --jobs 2 --require-signature {made}/key.pub", made="out/"),
}

STOPPED_READERS = {
    "train": Reader(line=TRAIN.replace("{here}/run", "{store}"), made="stopped/small/last.safe"),
    "metrics": Reader(line=TRAIN.replace("{here}/run", "{store}"), made="stopped/metrics"),
}
FINISHED_READERS = {
    "train": Reader(line=TRAIN.replace("{here}/run", "{store}"), pattern=r"(?m)^small +[.\d]+ +[,\d]+"),
    "report": Reader(line="report {store} --out {here}/report", made="report/report.md"),
    "evaluate": Reader(
        line=f"evaluate --model softlab:grey_mlp --weights {{store}}/small/last.safetensors {SOURCE}",
        pattern="(?m)^accuracy .*",
    ),
}


def predictions_readers(suffix: str) -> dict[str, Reader]:
    return {"import": Reader(line=IMPORT.replace("{made}/predictions-npz/p.npz", f"{{store}}/p.{suffix}"), made="out/")}


def weights_readers(suffix: str) -> dict[str, Reader]:
    given = f"--weights {{store}}/w.{suffix} {SOURCE}"
    return {
        "evaluate": Reader(line=f"evaluate --model softlab:grey_mlp {given}", pattern="(?m)^accuracy .*"),
        "dump": Reader(
            line=f"dump-teacher --out {{here}}/out --teacher softlab:grey_mlp {given} --k 4",
            made="out/outputs/",
            is_slow=True,
        ),
    }


def read_all(path: Path) -> None:
    """Prints a hash of all that the library gives of a store, or refuses as the program does."""
    try:
        store = open_store(path, cache=CacheOptions(max_bytes=0))
        digest = hashlib.blake2b(digest_size=16)
        for each in _all_of(store):
            digest.update(each if isinstance(each, bytes) else repr(each).encode())
        print(digest.hexdigest())
    except SoftlabError as error:
        print("error:", *str(error).splitlines(), file=sys.stderr)
        sys.exit(1)


def _all_of(store: Store) -> Any:
    samples, table = np.arange(store.num_samples), store.read_samples()
    yield from (list(table.keys), list(table.content_hashes), table.targets_N, table.recipe_N, table.rows_N)
    for view in range(store.num_views):
        for output in store.manifest.classes:
            labels = store.with_labels(output.name).read(samples, view=view)
            yield (labels.temperatures, labels.num_classes, labels.head, output.label_space.class_names)
            yield from (tensor.numpy().tobytes() for tensor in labels.tensors())
        for name in store.feature_names:
            yield store.read_features(name, samples, view=view).numpy().tobytes()

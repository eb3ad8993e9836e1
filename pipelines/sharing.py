"""Share a store between teams: publish, find, sign, verify, pull a part, stream; then tamper with it and be refused.

    python pipelines/sharing.py                          into the folder runs/sharing/published
    python pipelines/sharing.py s3://bucket/labels       into an object store, with credentials in the environment

Everything local is written below runs/sharing. `openssl` makes the keys.
"""

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

from softlab.remote.address import parse_address
from softlab.remote.connect import connect
from softlab.store.published import read_version, store_path

FOLDER = Path("runs/sharing")
NAME = "fashion-mnist-grey-resnet"
SOURCE = ("--source", "data/fashion_mnist/train", "--set", "source.limit=1000")
NORMALISED = ("--mean", "0.286", "--std", "0.353")
DUMP = (
    *("dump-teacher", "--teacher", "softlab:grey_resnet", "--weights", "data/fashion_mnist/teacher.safetensors"),
    *(*SOURCE, *NORMALISED, "--k", "5", "--views", "2", "--feature", "pool=pool.1"),
    *("--augment", "RandomCrop(28, padding=2)", "--augment", "RandomHorizontalFlip()"),
)
STUDENT = (*SOURCE, *NORMALISED, "--student", "softlab:grey_mlp", "--epochs", "4")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("place", nargs="?", default=str(FOLDER / "published"), help="URL or folder to publish at")
    place = parser.parse_args().place.rstrip("/")
    private, public, store = FOLDER / "key.pem", FOLDER / "key.pub", FOLDER / "store.zarr"
    published = f"{place}/{NAME}"

    say("The team with the teacher dumps once, publishes and signs.")
    softlab(*DUMP, "--out", store)
    run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", private)
    run("openssl", "ec", "-in", private, "-pubout", "-out", public)
    softlab("push", store, published, "--licence", "MIT", "--terms", "none: the teacher was trained here")
    softlab("sign", f"{published}@latest", "--key", private)

    say("Another team asks which labels exist for its own data.")
    softlab("catalog", place, *SOURCE)

    say("It verifies all of them, and pulls one view without features.")
    softlab("verify", f"{published}@latest", "--signer", public)
    part = FOLDER / "one-view.zarr"
    softlab("pull", f"{published}@latest", part, "--views", "1", "--features", "none", "--require-signature", public)
    softlab("verify", part)
    softlab("inspect", part)

    say("Or it streams them: nothing is pulled, shards are fetched when they are needed.")
    softlab("train-student", "--store", f"{published}@latest", *STUDENT, "--require-signature", public,
            "--out", FOLDER / "streamed")  # fmt: skip

    say("Somebody changes one byte of a published shard.")
    tamper(place)
    refused("verify", f"{published}@latest", "--signer", public)
    refused("pull", f"{published}@latest", FOLDER / "tampered.zarr")

    say("Somebody publishes other labels under the next number, unsigned.")
    softlab(*DUMP, "--set", "augment.seed=1", "--out", FOLDER / "other.zarr")
    softlab("push", FOLDER / "other.zarr", published, "--licence", "MIT", "--terms", "none")
    refused("train-student", "--store", f"{published}@latest", *STUDENT, "--require-signature", public,
            "--out", FOLDER / "refused")  # fmt: skip


def tamper(place: str) -> None:
    """Flip one bit of the first shard of version 1, as a broken disk or an intruder would."""
    remote = connect(parse_address(place))
    tree = remote.within(store_path(NAME, read_version(remote, NAME, 1).digest))
    found = next(each for each in tree.list_objects("outputs") if "/c/" in each.path)
    data = bytearray(tree.read(found.path, max_bytes=found.bytes))
    data[len(data) // 2] ^= 1
    tree.write(found.path, bytes(data))
    print(f"\nflipped a bit of {tree / found.path}")


def softlab(*arguments: object) -> None:
    """Show a command and run it; stop if it fails."""
    code = run_softlab(*arguments)
    if code != 0:
        sys.exit(code)


def refused(*arguments: object) -> None:
    """Show a command and run it; stop unless it fails."""
    code = run_softlab(*arguments)
    if code != 1:
        sys.exit(f"ended with {code}, and should have been refused with 1")


def run_softlab(*arguments: object) -> int:
    command = ["softlab", *map(str, arguments)]
    print(f"\n$ {shlex.join(command)}", flush=True)
    return subprocess.run([sys.executable, "-m", *command]).returncode


def run(*arguments: object) -> None:
    command = [*map(str, arguments)]
    print(f"\n$ {shlex.join(command)}", flush=True)
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


def say(text: str) -> None:
    print(f"\n== {text}", flush=True)


if __name__ == "__main__":
    main()

"""The root of a catalogue: the folder that holds the names of all stores. What is only one name or store is refused."""

import re
from pathlib import Path

from softlab.errors import InvalidOption, ObjectMissing
from softlab.manifest import MANIFEST_NAME
from softlab.remote.address import Address, parse_address
from softlab.remote.remote import Remote


def parse_catalogue(root: str | Path) -> Address:
    """A root's address. Raises InvalidOption for that of a version, ObjectMissing for a folder that isn't there."""
    address = parse_address(root)
    if address.name is not None:
        raise InvalidOption(f"{root}: is one version's address. Give what stands before its name: {address.root}.")
    if address.is_local and not Path(address.root).is_dir():
        raise ObjectMissing(f"{root}: no such folder. Check the address.")
    return address


def check_is_catalogue(remote: Remote) -> None:
    """To be called where nothing was found. Raises InvalidOption if a store lies there, or the versions of one name."""
    if remote.size(MANIFEST_NAME) is not None:
        raise InvalidOption(
            f"{remote}: is a store, not a folder that stores are published in. Give that folder, or `softlab inspect` "
            f"the store."
        )
    if any(re.fullmatch(r"versions/[1-9][0-9]*\.json", each.path) for each in remote.list_objects("versions")):
        raise InvalidOption(f"{remote}: holds the versions of one name. Give the folder that holds the names.")

"""`softlab progress`: how far a dump is that any number of processes write."""

from softlab.amounts import format_bytes
from softlab.cli.tables import print_facts
from softlab.store.dump_state import DumpState


def print_state(state: DumpState) -> None:
    """What is there, what is left, and the command that comes next."""
    facts = {
        "store": str(state.out),
        "shards": f"{state.shards:,} of {state.total_shards:,}",
        "rows": f"{state.rows:,} of {state.total_rows:,}",
        "bytes": format_bytes(state.bytes),
    }
    if state.missing:
        facts["missing"] = state.missing
    print_facts(facts | {"next": _next_step(state)})


def _next_step(state: DumpState) -> str:
    if state.is_finished:
        return "nothing, the store is finished"
    command = f"softlab finalize {state.out}"
    return f"{command}, once all shards are there" if state.missing else command

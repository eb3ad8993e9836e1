"""The bar in a real kernel, as a notebook's page gets it."""

from typing import Any

import pytest
from jupyter_client.manager import start_new_kernel

CELL = """
import time, softlab
with softlab.progress_bar(unit="files") as bar:
    bar(1, 8)
    time.sleep(0.3)
    bar(5, 8)
    bar(6, 8)
"""


@pytest.mark.process
def test_a_notebook_shows_one_bar_and_replaces_it() -> None:
    messages: list[dict[str, Any]] = []
    manager, kernel = start_new_kernel()
    try:
        reply = kernel.execute_interactive(CELL, output_hook=messages.append, timeout=60)
    finally:
        kernel.stop_channels()
        manager.shutdown_kernel(now=True)

    assert reply["content"]["status"] == "ok", reply["content"]
    kinds = [each["header"]["msg_type"] for each in messages if each["header"]["msg_type"] != "status"]
    assert kinds == ["execute_input", "display_data", "update_display_data", "update_display_data"]
    begun, drawn, settled = [each["content"] for each in messages if "data" in each["content"]]
    assert drawn["transient"] == settled["transient"] == begun["transient"] != {}
    assert drawn["data"]["text/plain"] == "5/8 files (62%)"
    assert settled["data"] == {
        "text/plain": "6/8 files (75%)",
        "text/html": '<progress max="1" value="0.7500"></progress> <code>6/8 files (75%)</code>',
    }

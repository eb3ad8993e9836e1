"""The catalogue's page: one HTML file that shows the `catalog.json` beside it, and loads nothing from other places.

What it shows was written by other teams, so it is not trusted. The page's script never parses HTML. Its content
security policy allows only the script and style in the file itself, by their hashes, and lets them read only from the
same server.
"""

import base64
import hashlib
from functools import cache
from importlib.resources import files

SCRIPTS = (
    *("elements.js", "formats.js", "catalog.js", "columns.js", "table.js"),
    *("markdown.js", "plots.js", "beside.js", "commands.js", "store.js", "main.js"),
)
STYLES = ("base.css", "list.css", "store.css", "screens.css")
"""Each in this order, as one."""

POLICY = (
    "default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)


@cache
def page_files() -> dict[str, bytes]:
    """Path below ROOT to bytes."""
    style = "\n".join(map(_read, STYLES))
    script = '"use strict";\n(() => {\n' + "\n".join(map(_read, SCRIPTS)) + "})();\n"
    policy = POLICY.format(script=_source_of(script), style=_source_of(style))
    html = _read("index.html")
    for name, text in (("policy", policy), ("style", style), ("script", script)):
        html = html.replace("{{" + name + "}}", text)
    return {"index.html": html.encode()}


def _read(name: str) -> str:
    return (files("softlab.sharing.catalogue") / "web" / name).read_text(encoding="utf-8")


def _source_of(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"

import base64
import hashlib
import re
from importlib.resources import files

from softlab.sharing.catalogue.page import page_files


def test_the_policy_lets_run_and_style_only_what_is_in_the_file() -> None:
    html = page_files()["index.html"].decode()

    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)

    for kind in ("script", "style"):
        (text,) = re.findall(rf"<{kind}>(.*?)</{kind}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy


def test_every_file_of_the_page_is_in_it() -> None:
    html = page_files()["index.html"].decode()

    assert "{{" not in html
    for file in (files("softlab.sharing.catalogue") / "web").iterdir():
        assert file.name == "index.html" or file.read_text() in html

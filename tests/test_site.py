"""The documentation's site: built without a warning, it loads nothing from elsewhere."""

import html.parser
import os
import pathlib
import re
import subprocess
import sys

import pytest

from santm_tf import __all__ as names
from santm_tf import baselines, tasks

ROOT = pathlib.Path(__file__).parent.parent
LOADS = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "object": "data"}
PAGES = ["index", "data", "sizes", "sweep", "plots", "export", "tasks", "models", "pretrained", "figures",
         "equations", "extending", "api/index", "troubleshooting", "changes", "notebooks/tour"]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    ran = subprocess.run([sys.executable, "-m", "mkdocs", "build", "--strict", f"--site-dir={folder}"],
                         cwd=ROOT, capture_output=True, text=True, check=False,
                         env=os.environ | {"NO_MKDOCS_2_WARNING": "1"})
    assert ran.returncode == 0, ran.stderr
    assert "WARNING" not in ran.stderr
    return folder


class Loaded(html.parser.HTMLParser):
    """What a page loads, and the anchors that it has."""

    def __init__(self, page):
        super().__init__()
        self.addresses, self.anchors = [], set()
        self.feed(page.read_text())

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.anchors.add(attributes.get("id"))
        if tag in LOADS and attributes.get("rel") != "canonical":
            self.addresses.append(attributes.get(LOADS[tag]) or "")


def test_nothing_is_loaded_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert {str(page.relative_to(site)) for page in pages} >= {f"{name}.html" for name in PAGES}
    for page in pages:
        for address in Loaded(page).addresses:
            assert not re.match(r"(https?:)?//", address), page
            if address and not address.startswith(("data:", "#")) and page.name != "404.html":
                assert (page.parent / address.partition("?")[0]).exists(), (page, address)
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//|@import", style.read_text()), style


def test_the_reference_has_every_public_name(site):
    def anchors(group):
        return Loaded(site / "api" / f"{group}.html").anchors

    assert {f"santm_tf.{name}" for name in names if name != "capacity"} <= anchors("layers")
    assert set(baselines.MODELS.values()) <= anchors("models")
    assert {where.replace(":", ".") for where in tasks.TASKS.values()} <= anchors("tasks")


def test_examples_are_code(site):
    page = (site / "api" / "layers.html").read_text()
    assert "&gt;&gt;&gt; " in page and not re.search(r"<p>\s*&gt;&gt;&gt;|<blockquote>", page)


def test_pages_can_be_searched(site):
    index = (site / "search" / "search_index.json").read_text()
    assert all(f'"{name}.html' in index for name in PAGES)

"""Every command and every block of code on the site's pages and in the README runs."""

import re

import pytest

from tests.pages import ROOT, Page

PAGES = [ROOT / "README.md", ROOT / "serving" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FOLLOWED = {"extending.md"}  # tests/test_extending.py follows it


def blocks(path):
    return re.findall(r"^```(\S*)", path.read_text(), re.MULTILINE)[::2]


@pytest.mark.parametrize("path", [pytest.param(path, id=path.name) for path in PAGES
                                  if blocks(path) and path.name not in FOLLOWED])
def test_its_blocks_run(path, tmp_path, monkeypatch, no_views):
    monkeypatch.chdir(tmp_path)
    Page(path).run()

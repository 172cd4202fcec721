"""Every command and every block of code on the site's pages and in the README runs."""

import importlib.util
import re

import pytest

from santm_tf.training import flags
from santm_tf.training.config import GROUPS, known
from tests.pages import ROOT, Page

PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", ROOT / "serving" / "README.md",
         *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "pretrained").rglob("*.md"))]
PROGRAMS = [ROOT / "serving/server.py", ROOT / "tests/fuzz/server_api.py", ROOT / "santm_tf/capacity.py",
            ROOT / "training/commands.py", ROOT / "training/launch.py", ROOT / "training/sweep_flags.py",
            *(ROOT / "benchmarks").glob("*.py")]  # which have flags of their own
FLAGS = {"help", "helpfull", "flagfile", *flags.ALIASES, *(name for group in GROUPS for name in known(group)),
         *(name for program in PROGRAMS
           for name in re.findall(r'"(?:--)?(\w+)"', program.read_text()))}
FOLLOWED = {"extending.md"}  # tests/test_extending.py follows it


def blocks(path):
    return re.findall(r"^```(\S*)", path.read_text(), re.MULTILINE)[::2]


@pytest.mark.parametrize("path", [pytest.param(path, id=path.name) for path in PAGES
                                  if blocks(path) and path.name not in FOLLOWED])
def test_its_blocks_run(path, tmp_path, monkeypatch, no_views):
    monkeypatch.chdir(tmp_path)
    Page(path).run()


@pytest.mark.parametrize("path", [pytest.param(path, id=str(path.relative_to(ROOT))) for path in PAGES])
def test_what_its_text_names_is_there(path):
    code = re.findall(r"`([^`\n]+)`", re.sub(r"(?ms)^```.*?^```", "", path.read_text()))
    text = "\n".join(code)
    for module in re.findall(r"python -m ((?:benchmarks|santm_tf)\.\w+)", text):
        assert importlib.util.find_spec(module), module
    for name in re.findall(r"(?:configs/|flagfile=)([\w-]+\.cfg)", text):
        assert "NAME" in name or (ROOT / "configs" / name).exists(), name
    assert set(re.findall(r"--(?!xla_)(\w+)", text)) <= FLAGS


def test_the_readmes_links_lead_somewhere():
    text = (ROOT / "README.md").read_text()
    links = re.findall(r"\]\(([^)#]+)", text)
    assert links and all((ROOT / link).exists() for link in links)
    assert 900 <= len(text.split()) <= 1100

"""The notebooks run. `python -m tests.test_notebooks NAME ...` runs them in full, and keeps what they give.

A line `name = value  # in tests: other` is a size that is another one in tests.
"""

import pathlib
import re
import sys

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = pathlib.Path(__file__).parents[1] / "notebooks"
SIZE = re.compile(r"^(\w+ = ).*  # in tests: (.+)$", re.MULTILINE)
MOST = 300_000  # bytes of a notebook with its outputs


def executed(notebook, folder):
    """The notebook after a run in a folder, without what differs from run to run."""
    NotebookClient(notebook, timeout=600, record_timing=False,
                   resources={"metadata": {"path": folder}}).execute()
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    for cell in notebook.cells:
        if "outputs" in cell:  # less TensorFlow's greeting
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    return notebook


def read(path):
    return nbformat.read(path, as_version=4)


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem)
                                  for path in sorted(NOTEBOOKS.glob("*.ipynb"))])
def test_it_runs_at_small_sizes(path, tmp_path, monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    notebook = read(path)
    assert path.stat().st_size < MOST
    assert any(cell.get("outputs") for cell in notebook.cells)
    assert sum(len(SIZE.findall(cell.source)) for cell in notebook.cells) == sum(
        cell.source.count("# in tests:") for cell in notebook.cells) > 0
    for cell in notebook.cells:
        cell.source = SIZE.sub(r"\1\2", cell.source)
    executed(notebook, tmp_path)


if __name__ == "__main__":
    import tempfile

    for name in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as folder:
            nbformat.write(executed(read(NOTEBOOKS / f"{name}.ipynb"), folder), NOTEBOOKS / f"{name}.ipynb")

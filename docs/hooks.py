"""What mkdocs does beside: the API pages name modules as a user imports them, and pages of other files."""

import base64
import json
import pathlib
import re
import shutil
import tempfile
import textwrap

import griffe
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).parent.parent
FOLDERS = re.compile(r'^"(santm_tf\.\w+)" = "(\w+)"$', re.MULTILINE)
EQUATIONS = re.compile(r"(?:^`.*\n){2,}", re.MULTILINE)
EXAMPLE = re.compile(r"^>>> (?:.+\n?)+", re.MULTILINE)


@event_priority(100)  # before mkdocstrings reads its configuration
def on_config(config):
    """Has mkdocstrings read the package as it is shipped, with `santm_tf.tasks` and others inside."""
    copy = tempfile.TemporaryDirectory()
    config.extra["package"] = copy  # which goes when the build is over
    folders = {"santm_tf": "santm_tf", **dict(FOLDERS.findall((ROOT / "pyproject.toml").read_text()))}
    for module, folder in folders.items():
        shutil.copytree(ROOT / folder, pathlib.Path(copy.name, *module.split(".")))
    config.plugins["mkdocstrings"].config.handlers["python"]["paths"] = [copy.name]
    return config


class Docstrings(griffe.Extension):
    """Leaves equations on lines of their own, and shows examples, which have no heading, as code."""

    def on_object(self, *, obj, **kwargs):
        if obj.docstring:
            text = EQUATIONS.sub(lambda found: found[0].replace("\n", "  \n"), obj.docstring.value)
            obj.docstring.value = EXAMPLE.sub(lambda found: "Examples:\n" + textwrap.indent(found[0], "  "),
                                              text)


def on_files(files, config):
    """Makes a page of each notebook, with the outputs that it holds, and of SECURITY.md."""
    files.append(File.generated(config, "security.md", content=(ROOT / "SECURITY.md").read_text()))
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=page(path)))
    return files


def page(path):
    """A notebook as Markdown."""
    parts = []
    for cell in json.loads(path.read_text())["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
        else:
            parts += [fenced("python", source), *map(shown, cell["outputs"])]
    return "\n\n".join(parts)


def shown(output):
    """What a cell gave: a picture, or text."""
    data = output.get("data", {})
    if "image/svg+xml" in data:
        picture = base64.b64encode("".join(data["image/svg+xml"]).encode()).decode()
        return f"![](data:image/svg+xml;base64,{picture})"
    if "image/png" in data:
        return f"![](data:image/png;base64,{data['image/png'].strip()})"
    return fenced("text", "".join(output.get("text") or data["text/plain"]))


def fenced(language, text):
    return f"```{language}\n{text.rstrip()}\n```"

"""A page of tables and figures, in one HTML file that needs nothing else."""

import base64
import contextlib
import html
import os
from typing import NamedTuple

from santm_tf.errors import extra
from santm_tf.paths import write_whole
from santm_tf.training.errors import UsageError
from santm_tf.training.layer_figures import png

with extra("plots"):
    from matplotlib.figure import Figure

STYLE = """
:root { color-scheme: light dark; --text: #1a1a1a; --soft: #595959; --back: #fff; --line: #d9d9d9; }
@media (prefers-color-scheme: dark) {
  :root { --text: #ececec; --soft: #b0b0b0; --back: #16181c; --line: #3a3d44; }
}
body { max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: var(--text); background: var(--back);
  font: 1rem/1.5 system-ui, sans-serif; }
table { border-collapse: collapse; margin: 0.5rem 0 2rem; }
.wide { overflow-x: auto; }
th, td { padding: 0.2rem 0.8rem; border-bottom: 1px solid var(--line); text-align: left; }
td { font-variant-numeric: tabular-nums; }
figure { margin: 0 0 2.5rem; }
figure img { max-width: 100%; height: auto; background: #fff; border: 1px solid var(--line);
  border-radius: 4px; }
figcaption { color: var(--soft); max-width: 50rem; }
"""
# Nothing is loaded and nothing runs, whatever a name in the page may hold.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


class View(NamedTuple):
    """A figure of a page: the name of its file, and a sentence on how to read it."""

    name: str
    figure: Figure
    reading: str


class Table(NamedTuple):
    """A table of a page: cells are text or numbers."""

    title: str
    heads: list
    rows: list


def write(path, folder, title, tables, views):
    """Writes the views to a folder, as `save` does, and with the tables to a page.

    Args:
      path, title: of the page. folder: of the views. tables: of `Table`. views: of `View`.

    Raises:
      UsageError: they cannot be written.
    """
    body = [f"<h1>{html.escape(title)}</h1>", *map(_table, tables)]
    body += [_figure(view, image) for view, image in save(folder, views)]
    with _writing(path):
        write_whole(path, _document(title, body))


def save(folder, views):
    """Writes views to a folder as `NAME.png`; returns each with its file's bytes.

    Raises:
      UsageError: they cannot be written.
    """
    images = [(view, png(view.figure)) for view in views]
    with _writing(folder):
        os.makedirs(folder, exist_ok=True)
        for view, image in images:
            write_whole(os.path.join(folder, f"{view.name}.png"), image)
    return images


@contextlib.contextmanager
def _writing(path):
    try:
        yield
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error


def _document(title, body):
    return "\n".join([
        "<!DOCTYPE html>", '<html lang="en">', "<head>", '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{html.escape(title)}</title>", f"<style>{STYLE}</style>", "</head>", "<body>", *body,
        "</body>", "</html>", ""])


def _table(table):
    def row(cells, tag):
        return "<tr>" + "".join(f"<{tag}>{html.escape(_shown(cell))}</{tag}>" for cell in cells) + "</tr>"

    rows = [row(table.heads, "th"), *(row(cells, "td") for cells in table.rows)]
    return "\n".join([f"<h2>{html.escape(table.title)}</h2>", '<div class="wide"><table>', *rows,
                      "</table></div>"])


def _figure(view, image):
    data = base64.b64encode(image).decode()
    title = html.escape(view.figure.get_suptitle())
    return (f'<figure id="{html.escape(view.name)}">\n'
            f'<img alt="{title}" src="data:image/png;base64,{data}">\n'
            f"<figcaption>{html.escape(view.reading)}</figcaption></figure>")


def _shown(value):
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)

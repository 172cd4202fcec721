"""TensorBoard on a run, in a real browser: every dashboard shows what `training.board` wrote."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys

import pytest
import tensorflow as tf

from santm_tf.training.commands import train
from tests.programs import run

CHROMIUM = shutil.which("chromium")
PATIENCE = 120_000  # milliseconds, on a machine that has much else to do
FLAGS = ["--task=digits", "--units=8", "--memory_slots=8", "--slot_width=8", "--attention_heads=2",
         "--segment_length=1.5",  # so that there are boundaries from the first step on
         "--locality=2", "--nojit_compile", "--batch_size=256", "--access_rate=0.25",
         "--profile_steps=5,8", "--initial_access_rate=0.25",  # a plan of one size, and so traced once
         "--epochs=3"]  # of two points alone TensorBoard draws no curve
IMAGES = {"memory/access_mask", "memory/usage", "memory/chebyshev",
          *(f"sequence_{row}/{view}" for row in (1, 2)
            for view in ("segments", "read", "write", "attention"))}
CURVES = {"figures/loss", "figures/accuracy", "memory/access_rate", "memory/boundary_rate",
          "memory/mean_segment_length", "optimiser/gradient_norm", "optimiser/learning_rate",
          "speed/examples_per_second"}
WEIGHTS = {"weights/logits/kernel", "weights/santm/access/scores", "weights/santm/recall/theta"}

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed (apt-get install chromium)")


@pytest.fixture
def runs(tmp_path):
    """A folder with one short run."""
    tf.keras.backend.clear_session()  # so that the layer is named santm, as in a process of its own
    run(train, f"--workdir={tmp_path}/first", *FLAGS)
    return tmp_path


@pytest.fixture
def address(runs):
    """Of a TensorBoard on the run, as `make board` starts it."""
    with subprocess.Popen([sys.executable, "-m", "tensorboard.main", f"--logdir={runs}", "--host=127.0.0.1",
                           "--port=0"], stderr=subprocess.PIPE, text=True) as server:
        try:
            yield next(found[1] for line in server.stderr
                       if (found := re.match(r"TensorBoard .* at (http://\S+)", line)))
        finally:
            server.terminate()
            server.stderr.read()


@pytest.fixture
def page():
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        page = browser.new_page(viewport={"width": 1500, "height": 1100})
        page.set_default_timeout(PATIENCE)
        errors = []
        page.on("pageerror", lambda error: errors.append(error))
        yield page
        browser.close()
        assert not errors


def test_every_dashboard_shows_the_run(address, page):
    dashboards = [time_series, scalars, images, distributions, histograms, text, hparams]
    if importlib.util.find_spec("tensorboard_plugin_profile"):
        dashboards.append(profile)
    for dashboard in dashboards:
        page.goto(f"{address}#{dashboard.__name__.replace('_', '')}")
        dashboard(page)
        if "PICTURES" in os.environ:  # a folder, to look at what was seen
            page.screenshot(path=os.path.join(os.environ["PICTURES"], f"{dashboard.__name__}.png"))


def time_series(page):
    page.locator("tb-filter-input[placeholder^='Filter tags'] input").fill("figures/|memory/usage")
    page.keyboard.press("Escape")
    for tag in ("figures/loss", "figures/accuracy"):
        rows = of(page, "scalar-card", tag).locator("tb-data-table-content-row")
        for split in ("train", "validation", "test"):
            shown(rows.filter(has_text=f"first/logs/{split}"))
    loaded(of(page, "image-card", "memory/usage"))


def scalars(page):
    found_by(page, "/")
    for tag in CURVES:
        drawn(of(page, "tf-scalar-card", tag), "vz-line-chart2 path.line")


def images(page):
    found_by(page, "/")
    for tag in IMAGES:
        loaded(of(page, "tf-image-loader", tag))


def distributions(page):
    found_by(page, "|".join(WEIGHTS))
    for tag in WEIGHTS:
        drawn(of(page, "tf-distribution-loader", tag), "vz-distribution-chart path.area")


def histograms(page):
    found_by(page, "|".join(WEIGHTS))
    for tag in WEIGHTS:
        drawn(of(page, "tf-histogram-loader", tag), "vz-histogram-timeseries path.outline")


def text(page):
    card = page.locator("tf-text-loader")
    shown(card.get_by_role("heading", name="santm on digits"))
    shown(card.locator("code", has_text="--access_rate=0.25"))
    shown(card.get_by_role("cell", name="SANTM"))


def hparams(page):
    page.locator("tf-hparams-query-pane paper-checkbox").filter(has_text="model").first.click()  # a column
    table = page.locator("tf-hparams-table-view")
    for content in ("first", "access_rate", "0.25000", "santm", "test.figures/accuracy"):
        shown(table.get_by_text(content, exact=True))


def profile(page):
    shown(page.frame_locator("iframe").get_by_text("first/logs/train"))


def of(page, element, tag):
    """What a dashboard has for a tag."""
    return page.locator(element).filter(has_text=tag).first


def found_by(page, regex):
    """Opens the tags that a regular expression finds, twelve at most."""
    page.locator("tf-tag-filterer input").locator("visible=true").fill(regex)


def shown(locator):
    locator.first.wait_for(state="visible")


def drawn(card, curve):
    """Waits until a card has a curve, which may be flat and so has no height."""
    card.locator(f"{curve}[d^=M]").first.wait_for(state="attached")


def loaded(card):
    """Waits until a card's picture is there, and not a broken one."""
    picture = card.locator("img")
    shown(picture)
    card.page.wait_for_function("picture => picture.complete && picture.naturalWidth > 300 && "
                                "picture.naturalHeight > 100", arg=picture.element_handle())

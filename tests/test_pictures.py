"""The pictures on the site are what the scripts draw today."""

import os
import re

import numpy as np
import pytest

from benchmarks import levels, pictures, table
from tests.pages import ROOT

TEXT = re.compile(r"<text[^>]*>([^<]*)</text>")
SHAPE = re.compile(r'(?:\bd|\bx|\by|transform)="([^"]*)"')
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def read(path):
    with open(path) as file:
        return file.read()


def shapes(svg):
    return np.array([float(number) for value in SHAPE.findall(svg) for number in NUMBER.findall(value)])


@pytest.mark.parametrize("name", pictures.PICTURES)
def test_it_is_what_is_drawn(name, tmp_path):
    committed, made = read(os.path.join(table.PICTURES, f"{name}.svg")), read(pictures.write(name, tmp_path))
    assert len(committed) < 60_000
    assert TEXT.findall(committed) == TEXT.findall(made)
    np.testing.assert_allclose(shapes(made), shapes(committed), atol=0.5)  # points, of which there are 576
    assert f"(pictures/{name}.svg)" in (ROOT / "docs" / "sizes.md").read_text()


def test_the_levels_are_what_is_drawn():
    assert read(os.path.join(table.PICTURES, "levels.svg")) == levels.picture()

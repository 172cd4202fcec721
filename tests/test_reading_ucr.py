"""The formats of the UCR and UEA archives, against aeon's loader."""

import os

import numpy as np
import pytest

from santm_tf.tasks.archive import TEST, TRAIN
from santm_tf.tasks.errors import TaskError
from santm_tf.tasks.reading import read

aeon = pytest.importorskip("aeon")
DATA = os.path.join(os.path.dirname(aeon.__file__), "datasets", "data")
SETS = ["BasicMotions", "JapaneseVowels", "ItalyPowerDemand", "ArrowHead", "PickupGestureWiimoteZ",
        "Covid3Month", "CardanoSentiment", "ACSF1", "UnitTest"]


def by_aeon(path):
    """The cases `[T, d]` and targets of a .ts file, as aeon reads them."""
    from aeon.datasets import load_from_ts_file  # takes seconds to import

    cases, y = load_from_ts_file(path)
    return [np.asarray(case).T for case in cases], y


@pytest.mark.parametrize("name", SETS)
def test_a_folder_of_the_archive_is_as_aeon_reads_it(name):
    found = read(os.path.join(DATA, name))
    steps = np.split(found.steps, np.cumsum(found.lengths)[:-1])
    for part, ending in ((TRAIN, "TRAIN"), (TEST, "TEST")):
        cases, y = by_aeon(os.path.join(DATA, name, f"{name}_{ending}.ts"))
        own = np.flatnonzero(found.parts == part)
        assert len(own) == len(cases)
        for n, case in zip(own, cases, strict=True):
            np.testing.assert_allclose(steps[n], case, rtol=1e-6)
        target = [cell for cell, in found.target[own]]
        number = name in ("Covid3Month", "CardanoSentiment")
        assert found.kind == ("number" if number else "class")
        if number:
            assert target == y.astype(float).tolist()
        else:  # aeon has classes in small letters
            assert [cell.lower() for cell in target] == y.tolist()
    assert f"reads {name}_TRAIN.ts, {name}_TEST.ts" in found.notes[0]


@pytest.mark.parametrize("name", ["ArrowHead", "GunPoint"])
@pytest.mark.parametrize("ending", [".tsv", "spaces.txt", "commas.txt"])
def test_rows_of_numbers_are_as_their_ts_file(name, ending, tmp_path):
    folder = os.path.join(DATA, name)
    path = os.path.join(folder, f"{name}_TRAIN.tsv")
    if ending != ".tsv":
        rows = np.loadtxt(path)
        path = tmp_path / ending
        np.savetxt(path, rows, delimiter="," if "commas" in ending else "  ")
    found, (cases, y) = read(str(path)), by_aeon(os.path.join(folder, f"{name}_TRAIN.ts"))
    np.testing.assert_allclose(found.steps, np.concatenate(cases), atol=1e-6)
    assert [cell for cell, in found.target] == y.tolist() and found.kind == "class"


def test_missing_values_and_ends(tmp_path):
    (tmp_path / "a.tsv").write_text("1\t0.5\tNaN\t2\n-1\t3\tNaN\tNaN\n")
    found = read(str(tmp_path / "a.tsv"))
    assert found.lengths.tolist() == [3, 1] and found.target.tolist() == [["1"], ["-1"]]
    np.testing.assert_array_equal(found.steps[:, 0], [0.5, np.nan, 2, 3])
    (tmp_path / "b.ts").write_text("@univariate true\n@classLabel true a b\n@data\n1,?,3:a\n:b\n4:b\n")
    found = read(str(tmp_path / "b.ts"))
    np.testing.assert_array_equal(found.steps[:, 0], [1, np.nan, 3, 4])
    note, = found.notes
    assert note == f"1 of 3 sequences have no step and are left out, the first is {tmp_path}/b.ts, line 5"


def test_time_stamps_are_left_out():
    path = os.path.join(DATA, "UnitTest", "UnitTestTimeStamps_TRAIN.ts")
    found = read(path)
    assert found.steps[:4, 0].tolist() == [241.97, 241.75, 241.64, 241.71] and len(found.lengths) == 4
    assert found.notes == (f"{path}: time stamps are left out; steps count",)


@pytest.mark.parametrize("text, said", [
    ("@data\n1,2\n", None),
    ("@univariate true\n1,2:a\n", ", line 2: values before @data; a .ts file has its tags, then @data"),
    ("@univariate true\n", ": has no @data; a .ts file has its tags, then @data, then a case a line"),
    ("@univariate maybe\n@data\n", ", line 1: @univariate maybe; it must be true or false"),
    ("@dimensions two\n@data\n", ", line 1: @dimensions two; it must be a whole number"),
    ("@classLabel true\n@data\n", ", line 1: @classLabel true names no class; write them behind it"),
    ("@classLabel true a\n@data\n", ": has no case below @data"),
    ("@classLabel true a\n@data\n1,2\n",
     ", line 3: has no colon; a case is its values, a colon, and its label"),
    ("@classLabel true a b\n@data\n1,2:a\n1,2:c\n", ", line 4: class c is not one of @classLabel, a b"),
    ("@classLabel true a\n@data\n1,x:a\n", ", line 3: x is no number; ? stands for a missing one"),
    ("@classLabel true a\n@data\n1,inf:a\n",
     ", line 3: value 2 is inf; ? stands for a missing one"),
    ("@classLabel true a\n@data\n1,-1e39:a\n",
     ", line 3: value 2 is -1e+39, which is more than float32 holds; ? stands for a missing one"),
    ("@classLabel true a\n@data\n1,2:1:a\n",
     ", line 3: dimension 2 has 1 values, dimension 1 has 2; they must be as many"),
    ("@classLabel true a\n@dimensions 3\n@data\n1,2:3,4:a\n",
     ", line 4: 2 dimensions; every case must have 3"),
    ("@classLabel true a\n@equalLength true\n@data\n1,2:a\n1:a\n",
     ", line 5: 1 steps, and @equalLength true asks for 2"),
    ("@targetLabel true\n@data\n1,2:high\n", ", line 3: high is no number; ? stands for a missing one")])
def test_a_ts_file_that_is_wrong_names_its_line(text, said, tmp_path):
    path = tmp_path / "a.ts"
    path.write_text(text)
    with pytest.raises(TaskError) as error:
        read(str(path))
    assert str(error.value) == (f"{path}{said}" if said else
                                f"--data_dir={path}: has no label; ask for a forecast by --horizon")


def test_a_row_whose_label_is_nan_is_counted(tmp_path):
    (tmp_path / "a.tsv").write_text("1\t1\t2\nNaN\t3\t4\n2\t5\t6\n")
    found = read(str(tmp_path / "a.tsv"))
    assert found.target.tolist() == [["1"], ["2"]]
    assert found.notes == (f"1 of 3 sequences have no class and are left out, the first is {tmp_path}/a.tsv, "
                           "line 2",)

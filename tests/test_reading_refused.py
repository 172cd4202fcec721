"""Own data that is wrong: one line with file, line and what would be right, or a counted skip."""

import os
import sys

import numpy as np
import pandas
import pytest

from santm_tf.errors import MissingExtra
from santm_tf.tasks.errors import TaskError
from santm_tf.tasks.reading import of_arrays, read

READ = ".npz, .ts, .tsv, .txt, .csv, .parquet, .pq, .tfrecord, .tfrecords"
LONG = "id,time,x,label\na,0,1.5,up\na,1,2.5,up\nb,0,3.5,no\nb,1,4.5,no\n"


def refused(path, **flags):
    with pytest.raises(TaskError) as error:
        read(str(path), **flags)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("content, flags, said", [
    ("", {}, "PATH: is empty"),
    (" \n\n", {}, "PATH: is empty"),
    ("id,time,x,label\n", {}, "PATH: has a header and no row"),
    (LONG + "c,0,1\n", {}, "PATH, line 6: 3 cells, and the header has 4; every row needs as many"),
    (LONG + "\nc,0,1,no,5\n", {}, "PATH, line 7: 5 cells, and the header has 4; every row needs as many"),
    (LONG.replace("2.5", '"2.5'), {}, "PATH, line 3: a quote opens here and does not close before the field "
     "ends; close it, or double a quote that belongs to the text"),
    (LONG.replace("2.5", '"2.5') + 'c,0,"7",no\n', {}, "PATH, line 3: a quote opens here and does not close "
     "before the field ends; close it, or double a quote that belongs to the text"),
    (LONG.replace("2.5", "2.5 V"), {}, "PATH, line 3: x is '2.5 V', and a number in most rows; mend it, "
     "leave it empty if it is missing, or give --categories=x"),
    (LONG.replace("2.5", "2,5").replace(",", ";").replace("2;5", "2,5"), {}, "PATH, line 3: x is '2,5', and "
     "a number in most rows; mend it, leave it empty if it is missing, or give --categories=x"),
    (LONG.replace("2.5", "-inf"), {}, "PATH, line 3: x is -inf; mend it, or leave it empty if it is missing"),
    (LONG.replace(",", ";").replace(".", ",").replace("2,5", "2 V"), {}, "PATH, line 3: x is '2 V', and a "
     "number in most rows; mend it, leave it empty if it is missing, or give --categories=x"),
    ('id,x,label\na,"1,234.5",up\na,345,up\nb,1,no\nb,"2,346",no\n', {}, "PATH, line 2: x is '1,234.5'; "
     "write numbers with a decimal point and no mark between thousands, or give --categories=x"),
    ('id,x,label\na,"1,234",up\na,345,up\nb,1,no\nb,"2,346",no\n', {}, "PATH, line 2: x is '1,234'; write "
     "numbers with a decimal point and no mark between thousands, or give --categories=x"),
    (LONG.replace("2.5", "1e300"), {}, "PATH, line 3: x is 1e+300, which is more than float32 holds; mend "
     "it, or leave it empty if it is missing"),
    (b"\xef\xbb\xbf\n", {}, "PATH: is empty"),
    (b"\xff\xfe", {}, "PATH: is empty"),
    (LONG.replace("b,1", "b,inf"), {}, "PATH, line 5: time is inf; every row needs a time that is finite"),
    (LONG, {"group": "time", "channels": "x"}, "PATH, line 3: --group=time changes within a sequence; all "
     "its rows need the same one"),
    (LONG.replace("b,1", "b,0"), {}, "PATH, line 5: time 0 of id b is also at PATH, line 4; a sequence has "
     "each time once"),
    ("t,x\n1,2\n1,3\n", {"forecast": True}, "PATH, line 3: t 1 is also at PATH, line 2; a sequence has each "
     "time once, and --id names the column that tells sequences apart"),
    (LONG.replace("b,1", ",1"), {}, "PATH, line 5: id is empty; every row needs one"),
    (LONG.replace("b,1", "b,"), {}, "PATH, line 5: time has no time; every row needs one"),
    ("id,date,x,label\na,2020-01-01,1,up\na,2.1.2020,2,up\na,2020-01-03,2,up\n", {}, "PATH, line 3: date is "
     "2.1.2020, which is no time of the form that the other rows have; write all as 2020-01-31 12:00:00"),
    ("id,date,x,label\na,31/12/2020,1,up\na,12/31/2020,2,up\na,25/12/2020,2,up\n", {}, "PATH, line 3: date "
     "is 12/31/2020, which is no time of the form that the other rows have; write all as 2020-01-31 "
     "12:00:00"),
    (LONG, {"label": "state"}, "--label=state: PATH has no such column; it has id, time, x, label"),
    (LONG, {"id": "id,time"}, "--id=id,time: names 2 columns; name one"),
    (LONG, {"ignore": "label"}, "--data_dir=PATH: has no label; name its column by --label, of x, or ask "
     "for a forecast by --horizon"),
    (LONG, {"ignore": "x"}, "PATH: has no channel beside id=id, time=time, label=label; give --channels; "
     "it has id, time, x, label"),
    (LONG, {"label": "x", "group": "x"}, "--group=x: is --label, too; a column is one of them"),
    (LONG, {"categories": "label", "label": "label"}, "--categories=label: is no channel; the channels are "
     "x"),
    (LONG, {"label": "label", "forecast": True}, "--label=label: is no channel of numbers to forecast; "
     "those are x"),
    ("id,when,x,label\na,2020-01-01,1,u\na,2020-01-02,1,u\n", {"channels": "x,when"}, "--channels=when: "
     "holds times; a channel holds numbers or categories"),
    (LONG.replace("x", "id"), {}, "PATH, line 1: two columns are called id; each needs a name of its own"),
    (LONG.replace("a,1,2.5,up", "a,1,2.5,no"), {"per_step": False}, "label changes within 1 of 2 sequences, "
     "the first is at PATH, line 2; and --noper_step wants one a sequence"),
    ("id,x,label\na,1,up\nb,2,no\n", {"id": "id"}, "--id=id: every row has another one, so each sequence has "
     "one step; if a row is a sequence, leave --id out"),
    ("1,0.5,0.7,0.1\n2,0.1,0.7,0.5\n", {}, "PATH, line 1: is no header, its cells are numbers; put names "
     "above it, such as label,t0,t1,t2 for a sequence a row"),
    ("up,0.5,0.7,0.1\nno,0.1,0.7,0.5\n", {}, "PATH, line 1: is no header, its cells are numbers; put names "
     "above it, such as label,t0,t1,t2 for a sequence a row"),
    ("a,b,label\n1,2,up\n3,4,no\n", {}, "PATH: its form cannot be told; give --id=COLUMN if a row is a step, "
     "or --channels=COLUMN,... if the columns are steps; it has a, b, label"),
    ("label,t0,t1,t2\nup,1,2,3\nno,1,2,3\n", {"per_step": False, "label": "label", "channels": "t9"},
     "--channels=t9: PATH has no such column; it has label, t0, t1, t2"),
    (LONG.encode() + b"caf\xe9,0,1,up\n", {}, "PATH, line 6: byte 0xe9 is not UTF-8; save the file as UTF-8, "
     "for instance with iconv -f LATIN1 -t UTF-8"),
    (LONG.encode() + b"\0\0\0", {}, "PATH: has bytes of 0, so is no text; give a text in UTF-8"),
    (LONG.replace("1.5", "NA").replace("2.5", "?").replace("3.5", "-").replace("4.5", ""), {},
     "PATH, line 2: every value of every channel is missing"),
    (LONG.replace("up", "").replace("no", "?"), {}, "--data_dir: no sequence is left; 2 of 2 sequences have "
     "no label and are left out, the first is PATH, line 2")])
def test_a_table_that_is_wrong_names_its_line(content, flags, said, tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert refused(path, **flags) == said.replace("PATH", str(path))


@pytest.mark.parametrize("content, notes", [
    (LONG + "c,0,7,\n", ["1 of 3 sequences have no label and are left out, the first is PATH, line 6"]),
    ("label,t0,t1,t2\nup,1,2,3\nno,,,\nup,5,,\n",
     ["1 of 3 sequences have no step and are left out, the first is PATH, line 3"]),
    (LONG.replace("x,label", "x,y1,label").replace(",up", ",,up").replace(",no", ",NA,no"),
     ["without a value and left out: y1"]),
    ("".join(f"{n or ''},{line},,\n" for n, line in enumerate(LONG.split())),
     ["PATH: a column without a name counts the rows and is left out"]),
    (LONG.replace(",", ";").replace(".", ","), ["PATH: its numbers are read with a decimal comma"]),
    (LONG.replace("x,label", "x,gain,label").replace(",up", ",3,up").replace(",no", ",3,no"),
     ["the same at every step, and kept: gain"])])
def test_what_is_left_out_is_counted(content, notes, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(content)
    found = read(str(path))
    said = [note for note in found.notes if "read as" not in note]
    assert said == [note.replace("PATH", str(path)) for note in notes]
    assert len(found.lengths) == 2 and len(found.channels) == 1 + ("kept" in notes[0])


@pytest.mark.parametrize("copies", [1, 9])
def test_texts_in_the_test_file_alone_are_no_categories(copies, tmp_path):
    (tmp_path / "train.csv").write_text(LONG)
    rows = "".join(f"{n}{row}\n" for n in range(copies) for row in LONG.replace(".5", "V").split()[1:])
    (tmp_path / "test.csv").write_text(LONG.split()[0] + "\n" + rows)
    assert refused(tmp_path) == (f"{tmp_path}/test.csv, line 2: x is '1V', and a number in most rows; mend "
                                 "it, leave it empty if it is missing, or give --categories=x")


def test_columns_that_are_no_channel_are_said(tmp_path):
    rows = [f"s{n // 10},{n},{n},note {n},2020-01-01,up\n" for n in range(30)]
    (tmp_path / "t.csv").write_text("id,t,x,comment,made,label\n" + "".join(rows))
    found = read(str(tmp_path / "t.csv"))
    assert [channel.name for channel in found.channels] == ["x"]
    assert f"{tmp_path}/t.csv: not read: comment, made; --channels or --group takes them" in found.notes


@pytest.mark.parametrize("names, flags, said", [
    ({}, {}, f"--data_dir=PATH: has no file of {READ}"),
    ({"a.arff": ""}, {}, f"--data_dir=PATH: has no file of {READ}; a.arff "
     "is not read, give the .ts file of the same set"),
    ({"a_TRAIN.csv": LONG, "b_TRAIN.csv": LONG}, {},
     "--data_dir=PATH: has several sets, a, b; put one in a folder of its own"),
    ({"a.npz": "", "b.npz": ""}, {},
     "--data_dir=PATH: has a.npz, b.npz; name one of them, or call them train and test"),
    ({"train.csv": LONG, "test.csv": LONG.replace("x", "z")}, {},
     "PATH/test.csv: has no column x, which PATH/train.csv has; all files need the same ones"),
    ({"train.csv": LONG, "test.csv": LONG.replace("time", "time,more").replace(",1,", ",1,1,").replace(
        ",0,", ",0,0,")}, {},
     "PATH/train.csv: has no column more, which PATH/test.csv has; all files need the same ones"),
    ({"train.csv": LONG}, {"test_data": "none.csv"}, "--test_data=none.csv: no such file"),
    ({"train.csv": LONG}, {"test_data": __file__},
     f"--test_data={__file__}: .py is not read; give a file of {READ}")])
def test_folders_that_are_wrong(names, flags, said, tmp_path):
    for name, content in names.items():
        (tmp_path / name).write_text(content)
    assert refused(tmp_path, **flags) == said.replace("PATH", str(tmp_path))


def test_folders_that_are_not_read_are_named(tmp_path):
    for name in "ok", "fault":
        os.makedirs(tmp_path / name)
        (tmp_path / name / "1.csv").write_text(LONG)
    assert refused(tmp_path) == (f"--data_dir={tmp_path}: has no file of {READ}; its folders fault, ok are "
                                 "not read, name one, or call them train and test")


@pytest.mark.parametrize("ending, said", [
    (".xlsx", ".xlsx is not read; save it as CSV"), (".arff", ".arff is not read; give the .ts file of the "
                                                                "same set"), ("", "no such file or folder")])
def test_files_that_are_not_read(ending, said, tmp_path):
    path = tmp_path / f"a{ending}"
    if ending:
        path.write_text("x")
    assert refused(path) == f"--data_dir={path}: {said}"


def test_parquet_that_is_wrong(tmp_path):
    path = tmp_path / "t.parquet"
    path.write_text("PAR1")
    assert refused(path).startswith(f"{path}: cannot be read as Parquet (")
    pandas.DataFrame({"id": ["a"], "x": [[[1, 2]]]}).to_parquet(path)
    assert refused(path).startswith(f"{path}: column x holds list<")
    pandas.DataFrame({"x": [[1, 2], [3]], "z": [[1, 2], [3, 4]], "label": ["a", "b"]}).to_parquet(path)
    assert refused(path) == f"{path}, row 2: z has 2 steps and x has 1; the lists of a row need as many"
    pandas.DataFrame({"uid": [1, 2], "x": [[1, 2], [3]], "label": ["a", "b"]}).to_parquet(path)
    assert refused(path, id="uid") == f"--id=uid: each row of {path} is a sequence; leave it out"
    pandas.DataFrame({"id": ["a", "a"], "x": [1, np.inf], "label": "up"}).to_parquet(path)
    assert refused(path) == f"{path}, row 2: x is inf; mend it, or leave it empty if it is missing"


X = np.zeros([2, 3, 1])


@pytest.mark.parametrize("arrays, said", [
    ({"z": X}, "PATH: has no x or x_train; it has z; save it with numpy.savez(file, x=x, y=y), x being "
     "[N, T, d]"),
    ({"x": X, "x_test": X}, "PATH: has x and also x_test; keep one of them"),
    ({"x_test": X}, "PATH: has no x_train"),
    ({"x_train": X, "x_test": np.zeros([2, 3, 2])}, "PATH: x_test: has 2 channels, PATH: x_train has 1"),
    ({"x": np.array([[1], [1, 2]], object)}, "PATH: x: is an array of objects, which takes pickle to read; "
     "save numbers [N, T, d], padded at the end, and their lengths [N]"),
    ({"x": X, "y": [1]}, "PATH: x: has 2 sequences and y 1 targets; it must have as many"),
    ({"x": X + np.inf}, "PATH: x[0]: step 0 of channel x is inf; NaN stands for a missing value"),
    ({"x": np.where(X == X, 1e300, X)}, "PATH: x[0]: step 0 of channel x is 1e+300, which is more than "
     "float32 holds; NaN stands for a missing value"),
    ({"x": X, "y": 1}, "PATH: x: has 2 sequences and y 1 targets; it must have as many"),
    ({"x": X, "y": np.zeros([2, 3, 1, 1])}, "PATH: x: y must be [N] or [N, k]; at each step it must be as "
     "long as x"),
    ({"x": X, "lengths": [1, 4]}, "PATH: x: lengths[1] is 4; PATH: x[1] has 3 steps"),
    ({"x": X, "lengths": [1.5, 2]}, "PATH: x: lengths have shape [2] of float64; they must be whole numbers "
     "[2]"),
    ({"x": X[..., None]}, "PATH: x[0]: has shape [3, 1, 1]; a sequence is an array [T, d] or [T]"),
    ({"x": X + 1j}, "PATH: x[0]: holds complex128; give numbers, or texts for categories"),
    ({"x": X[:0]}, "PATH: x: has no sequence"),
    ({"x": X, "y": np.zeros([2, 3, 1, 1])[:, :2]}, "PATH: x: y must be [N] or [N, k]; at each step it must "
     "be as long as x")])
def test_arrays_that_are_wrong(arrays, said, tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, **arrays)
    assert refused(path) == said.replace("PATH", str(path))
    os.makedirs(tmp_path / "folder")
    for name, values in arrays.items():
        np.save(tmp_path / "folder" / f"{name}.npy", np.asarray(values), allow_pickle=True)
    said = said.replace("PATH", f"{tmp_path}/folder")
    assert refused(tmp_path / "folder").split(": ")[-1] == said.split(": ")[-1]


@pytest.mark.parametrize("given, said", [
    ({"x": [[1], [[1, 2]]]}, "x: its sequences have 1 and 2 channels; they must have as many each"),
    ({"x": None}, "x: is a NoneType; it must be an array [N, T, d] or [N, T], or a list of N arrays [T_n, d] "
     "or [T_n]"),
    ({"x": {"a": X}}, "x: is a dict; it must be an array [N, T, d] or [N, T], or a list of N arrays [T_n, d] "
     "or [T_n]"),
    ({"x": [[[1, 2], [3]]]}, "x[0]: has steps of different widths; a sequence is an array [T, d] or [T]"),
    ({"x": X, "parts": [0, 3]}, "parts: must be 0 to train, 1 to validate or 2 to test"),
    ({"x": X, "parts": ["train", "test"]}, "parts: must be 0 to train, 1 to validate or 2 to test"),
    ({"x": np.ones([2, 3, 2]), "channels": ["a", "a"]}, "channels: two are called a; each needs a name of "
     "its own"),
    ({"x": X, "categories": [0]}, "--categories=0: no such channel; there is x"),
    ({"x": X, "y": [1j, 2j]}, "y: holds complex128; give numbers, or texts for classes"),
    ({"x": X, "channels": ["a", "b"]}, "channels: 2 names for 1 channels of x"),
    ({"x": X, "categories": ["z"]}, "--categories=z: no such channel; there is x"),
    ({"x": X, "groups": ["a"]}, "groups: has shape [1]; it must be [2]"),
    ({"x": X, "y": [0, 1], "per_step": True}, "x: y is not of each step; it must be [N, T] or [N, T, k]")])
def test_arrays_of_python_that_are_wrong(given, said):
    with pytest.raises(TaskError) as error:
        of_arrays(**given)
    assert str(error.value) == said


def test_what_is_masked_or_none_is_missing():
    masked = np.ma.array([[1.0, 2.0, 3.0]], mask=[[False, True, False]])
    for x in masked, [[1.0, None, 3.0]]:
        np.testing.assert_array_equal(of_arrays(x, channels="a").steps[:, 0], [1, np.nan, 3])


def test_a_label_that_a_forecast_does_not_read_is_said(tmp_path):
    np.savez(tmp_path / "a.npz", x=X, y=[0, 1])
    assert read(str(tmp_path / "a.npz"), forecast=True).notes[0] == (
        f"{tmp_path}/a.npz: its label is not read, since --horizon predicts the series itself")


def test_an_npz_file_that_is_damaged(tmp_path):
    path = tmp_path / "a.npz"
    path.write_bytes(b"PK\3\4none")
    assert refused(path) == f"{path}: cannot be read as .npz; save it with numpy.savez"
    with open(path, "wb") as file:
        np.save(file, X)
    assert refused(path) == f"{path}: cannot be read as .npz; save it with numpy.savez"
    np.save(tmp_path / "a.npy", X)
    assert refused(tmp_path / "a.npy") == (
        f"--data_dir={tmp_path}/a.npy: .npy is not read; give the folder that has x.npy and y.npy")


@pytest.mark.parametrize("flags, said", [
    ({"id": "a"}, "--id=a: PATH has no columns; it is for CSV and Parquet"),
    ({"channels": "a,b"}, "channels: 2 names for 1 channels of PATH: x")])
def test_flags_that_arrays_do_not_take(flags, said, tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=X, y=[0, 1])
    assert refused(path, **flags) == said.replace("PATH", str(path))


def test_tables_need_an_extra(tmp_path, monkeypatch):
    (tmp_path / "t.csv").write_text(LONG)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtra, match=r'pandas is not installed: pip install "santm-tf\[data\]"'):
        read(str(tmp_path / "t.csv"))

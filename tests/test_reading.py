"""Own data: the same sequences from every format, and what is guessed of a table."""

import os
import subprocess
import sys

import numpy as np
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from santm_tf.tasks.archive import TEST, TRAIN, VALIDATION
from santm_tf.tasks.reading import Channel, encoding, of_arrays, read
from santm_tf.tasks.reading.sequences import joined

NUMBERS = st.floats(-1e6, 1e6).map(lambda x: round(x, 9)) | st.just(np.nan)
LABELS = ["up", "down", "no"]


@st.composite
def series(draw, shortest=1):
    """Sequences `[T_n, 2]`, at least one of two steps, and their labels; ends hold no missing value."""
    lengths = draw(st.lists(st.integers(shortest, 5), min_size=1, max_size=5)) + [max(2, shortest)]
    rows = [np.array(draw(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=n, max_size=n))) for n in lengths]
    for row in rows:
        row[-1] = np.nan_to_num(row[-1], nan=0.5)
    return rows, [draw(st.sampled_from(LABELS)) for _ in rows]


def long_frame(rows, labels, rng=None):
    """A row a step; in a random order where `rng` is given."""
    frame = pandas.concat([pandas.DataFrame(row, columns=["a", "b"]).assign(id=f"s{n}", t=np.arange(len(row)),
                                                                         label=label)
                           for n, (row, label) in enumerate(zip(rows, labels, strict=True))])
    return frame if rng is None else frame.iloc[rng.permutation(len(frame))]


def wide_frame(rows, labels):
    longest = max(map(len, rows))
    padded = np.full([len(rows), longest, 2], np.nan)
    for n, row in enumerate(rows):
        padded[n, :len(row)] = row
    columns = {f"{name}_{t}": padded[:, t, c] for c, name in enumerate("ab") for t in range(longest)}
    return pandas.DataFrame({"label": labels} | columns)


def write_ts(path, rows, labels):
    cases = [":".join(",".join("?" if x != x else repr(float(x)) for x in channel) for channel in row.T)
             for row in rows]
    path.write_text("# made\n@problemName made\n@missing true\n@univariate false\n@dimensions 2\n"
                    f"@equalLength false\n@classLabel true {' '.join(LABELS)}\n@data\n"
                    + "".join(f"{case}:{label}\n" for case, label in zip(cases, labels, strict=True)))


def written(folder, form, rows, labels):
    """The path of a file of these sequences, and the flags that it needs."""
    path = folder / f"data.{form.split()[-1]}"
    if form == "npz":
        padded = np.full([len(rows), 6, 2], 7.0)
        for n, row in enumerate(rows):
            padded[n, :len(row)] = row
        np.savez(path, X=padded, y=np.array(labels), lengths=list(map(len, rows)))
    elif form == "ts":
        write_ts(path, rows, labels)
    elif form.endswith("parquet"):
        long_frame(rows, labels, np.random.default_rng(0)).to_parquet(path, index=False)
    else:
        frame = wide_frame(rows, labels) if "wide" in form else long_frame(
            rows, labels, np.random.default_rng(0) if "mixed" in form else None)
        comma = "comma" in form
        frame.to_csv(path, index=False, sep=";" if comma else "\t" if "tsv" in form else ",",
                     decimal="," if comma else ".", na_rep="NA" if comma else "",
                     encoding="utf-16" if "mixed" in form else "utf-8-sig" if comma else "utf-8")
    return str(path)


def by_name(found):
    """`{name: (steps, cells)}` of sequences."""
    steps = np.split(found.steps, np.cumsum(found.lengths)[:-1])
    return {name: (x, tuple(y)) for name, x, y in zip(found.names, steps, found.target, strict=True)}


@pytest.mark.parametrize("form", ["long csv", "mixed long csv", "long comma csv", "long tsv", "wide csv",
                                  "wide comma csv", "long parquet", "npz", "ts"])
@settings(max_examples=25, deadline=None)
@given(data=series(), folder=st.just(None))
def test_every_format_gives_the_same_sequences(form, data, folder, tmp_path_factory):
    rows, labels = data
    if "wide" in form and max(map(len, rows)) < 3:
        rows.append(np.ones([3, 2]))
        labels.append("no")
    found = read(written(tmp_path_factory.mktemp("made"), form, rows, labels))
    expected = {f"s{n}" if "long" in form else str(n): (row, (label,))
                for n, (row, label) in enumerate(zip(rows, labels, strict=True))}
    here = by_name(found)
    assert here.keys() == expected.keys() and found.parts is None and not found.per_step
    assert [channel.categories for channel in found.channels] == [None, None]
    for name, (x, y) in expected.items():
        np.testing.assert_array_equal(here[name][0], x)
        assert here[name][1] == y
    if "mixed" not in form and "parquet" not in form:
        assert list(here) == list(expected)  # in the order of the file


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.sampled_from(["buy", "look", "leave", ""]), min_size=1, max_size=4), min_size=2,
                max_size=5), st.integers(1, 3))
def test_categories_are_places_in_their_sorted_union(rows, cut):
    rows = [["buy", *row] for row in rows]
    whole = of_arrays(rows)
    pieces = [of_arrays(part) for part in (rows[:cut], rows[cut:]) if part]
    again = joined([(None, piece, "") for piece in pieces])
    for found in whole, again:
        names = found.channels[0].categories
        assert list(names) == sorted({cell for row in rows for cell in row} - {""})
        assert ["" if place != place else names[int(place)] for place in found.steps[:, 0]] == sum(rows, [])


def save(path, text):
    path.write_text(text)
    return str(path)


STEPS = "".join(f"{n},{t},{n + t},{5 - t},{'ok' if n else 'bad'}\n" for n in range(4) for t in range(6))
EVENTS = "case,event,code\n" + "a,start,3\na,10 min,11\nb,start,3\nb,stop,\nb,?,2\n"
RUNS = "".join(f"{n % 2},{n}.5,{n},2.5\n" for n in range(9))


@pytest.mark.parametrize("header, body, flags, said", [
    ("id,time,temp,press,label\n", STEPS, {}, "id=id, time=time, label=label, channels=temp,press;"),
    ("machine,cycle,a,b,state\n", STEPS, {}, "id=machine, time=cycle, label=state, channels=a,b;"),
    ("seriesId,t,a,b,class\n", STEPS, {}, "id=seriesId, time=t, label=class, channels=a,b;"),
    ("who,step,a,b,how\n", STEPS, {}, "id=who, time=step, label=how, channels=a,b;"),
    ("who,n,a,b,how\n", STEPS, {}, "id=who, time=none, label=how, channels=n,a,b;"),
    ("who,n,a,b,how\n", STEPS, {"time": "n", "channels": "b"}, "id=who, time=n, label=how, channels=b;"),
    ("who,ch0,ch1,b,how\n", STEPS, {"channels": "ch", "id": "who"}, "id=who, time=none, label=how, "
     "channels=ch0,ch1;"),
    ("y,a2,a1,b\n", RUNS, {"channels": "a,b"}, "steps a1 to b, id=none, label=y, channels=x;"),
    ("y,a2,a1,b\n", RUNS, {"channels": "a"}, "steps a1 to a2, id=none, label=y, channels=a;"),
    ("label,t0,t1,t2\n", RUNS, {}, "steps t0 to t2, id=none, label=label, channels=t;"),
    ("y,0,1,2\n", RUNS, {}, "steps 0 to 2, id=none, label=y, channels=x;"),
    ("kind,x_1,x_2,x_10\n", RUNS, {"label": "kind"}, "steps x_1 to x_10, id=none, label=kind, channels=x;"),
    ("class,jan,feb,mar\n", RUNS, {"channels": "jan,feb,mar"},
     "steps jan to mar, id=none, label=class, channels=x;")])
def test_the_roles_of_columns_are_guessed_and_said(header, body, flags, said, tmp_path):
    path = save(tmp_path / "t.csv", header + body)
    found = read(path, **flags)
    form = "wide form, a row a sequence" if "steps" in said else "long form, a row a step"
    assert any(f"{path}: read as {form}: {said}" in note for note in found.notes), found.notes
    assert len(found.lengths) == (9 if "steps" in said else 4)


def test_texts_and_codes_are_categories(tmp_path):
    path = save(tmp_path / "t.csv", EVENTS)
    found = read(path, forecast=True)
    assert found.channels == (Channel("event", ("10 min", "start", "stop")), Channel("code"))
    np.testing.assert_array_equal(found.steps, [[1, 3], [0, 11], [1, 3], [2, np.nan], [np.nan, 2]])
    found = read(path, forecast=True, categories="code")
    assert found.channels[1] == Channel("code", ("2", "3", "11"))
    np.testing.assert_array_equal(found.steps[:, 1], [1, 2, 1, np.nan, 0])


def test_a_label_that_changes_is_one_of_each_step(tmp_path):
    text = "id,x,label\na,1,up\na,2,down\na,3,\nb,1,up\nb,2,up\n"
    found = read(save(tmp_path / "t.csv", text))
    assert found.per_step and found.target[:, 0].tolist() == ["up", "down", None, "up", "up"]
    where = f"the first is at {tmp_path}/t.csv, line 2"
    assert f"label changes within 1 of 2 sequences, {where}; so it is read" in found.notes[1]
    once = read(save(tmp_path / "t.csv", "id,x,label\na,1,\na,2,down\nb,1,up\nb,2,up\n"))
    assert not once.per_step and once.target.tolist() == [["down"], ["up"]]
    assert read(save(tmp_path / "u.csv", text.replace("down", "up")), per_step=True).per_step


def test_several_targets_and_groups(tmp_path):
    text = "id,x,speed,load,who\na,1,0.5,2,mo\na,2,0.5,2,mo\nb,1,1.5,7,jo\nb,2,1.5,7,jo\n"
    found = read(save(tmp_path / "t.csv", text), label="speed,load", group="who")
    assert found.target.tolist() == [[0.5, 2.0], [1.5, 7.0]] and found.targets == ("speed", "load")
    assert found.groups.tolist() == ["mo", "jo"] and [c.name for c in found.channels] == ["x"]


TIMES = ["2021-02-28 23:00:00", "2021-03-01 00:30:00", "2021-03-01 09:05:00", "2021-12-31 12:00:00"]


@pytest.mark.parametrize("form", [
    "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S+01:00", "%d.%m.%Y %H:%M",
    "%m/%d/%Y %H:%M:%S", "%d/%m/%Y %H:%M", "%m/%d/%y %I:%M %p", "%d-%m-%Y %H:%M", "%d %b %Y %H:%M", "unix",
    "%Y-%m-%d %H:%M:%S UTC", "%Y-%m-%d %H:%M:%S +0000", "%a, %d %b %Y %H:%M:%S GMT", "%B %d, %Y %H:%M",
    "%b %d %Y %H:%M:%S", "%A, %B %d, %Y %I:%M:%S %p", "%d/%b/%Y:%H:%M:%S +0000", "%d-%b-%y %H:%M",
    "milliseconds", "%Y/%m/%d %H:%M:%S.%f"])
def test_rows_are_sorted_by_times_of_any_form(form, tmp_path):
    stamps = pandas.to_datetime(pandas.Series(TIMES))
    seconds = (stamps - pandas.Timestamp("1970-01-01")) // pandas.Timedelta("1s")
    cells = {"unix": seconds, "milliseconds": 1000 * seconds}.get(form)
    cells = stamps.dt.strftime(form) if cells is None else cells
    frame = pandas.DataFrame({"id": "a", "time": cells, "x": range(4), "label": "up"}).iloc[[2, 0, 3, 1]]
    frame.to_csv(tmp_path / "t.csv", index=False)
    found = read(str(tmp_path / "t.csv"))
    assert found.steps[:, 0].tolist() == [0, 1, 2, 3]
    assert "1 of 1 sequences are not in order of time and are sorted" in found.notes


def test_an_order_of_day_and_month_that_cannot_be_told_is_said(tmp_path):
    text = "id,time,x,label\na,02/01/2020,1,up\na,01/03/2020,2,up\n"
    found = read(save(tmp_path / "t.csv", text))
    assert found.steps[:, 0].tolist() == [2, 1]
    assert found.notes[1] == ("time: 02/01/2020 is read as month/day, and day/month fits, too; write "
                              "2020-01-31 if that is wrong")


def test_rows_of_one_id_are_gathered(tmp_path):
    found = read(save(tmp_path / "t.csv", "id,x,label\na,1,up\nb,2,no\na,3,up\nb,4,no\nc,5,no\n"))
    assert found.names.tolist() == ["a", "b", "c"] and found.steps[:, 0].tolist() == [1, 3, 2, 4, 5]
    assert "2 of 3 sequences have rows that are not together and are gathered, the first is a" in found.notes
    assert [found.where(n)[-6:] for n in range(3)] == ["line 2", "line 3", "line 6"]


def test_lines_count_quoted_ends_and_blank_ones(tmp_path):
    text = '\nid,x,label\na,1,"up\nwards"\na,2,"up\nwards"\n\nb,3,no\nb,4,no\n'
    found = read(save(tmp_path / "t.csv", text))
    assert [found.where(n)[-6:] for n in range(2)] == ["line 3", "line 8"]
    assert found.target.tolist() == [["up\nwards"], ["no"]]


@pytest.mark.parametrize("names, parts, flags", [
    ({"a_TRAIN.csv": 0, "a_TEST.csv": 1}, [TRAIN, TEST], {}),
    ({"Train.csv": 0, "valid.csv": 1, "TEST.csv": 2}, [TRAIN, VALIDATION, TEST], {}),
    ({"train/1.csv": 0, "dev/1.csv": 1, "notes.md": 2}, [TRAIN, VALIDATION], {}),
    ({"train-00000-of-00002.csv": 0, "train-00001-of-00002.csv": 1, "test.csv": 2}, [TRAIN, TRAIN, TEST], {}),
    ({"x.csv": 0, "held.csv": 1, "last.csv": 2}, [TRAIN, VALIDATION, TEST],
     {"data_dir": "x.csv", "validation_data": "held.csv", "test_data": "last.csv"}),
    ({"jan.csv": 0, "feb.csv": 1}, None, {})])
def test_names_say_the_parts(names, parts, flags, tmp_path):
    for name, n in names.items():
        os.makedirs((tmp_path / name).parent, exist_ok=True)
        save(tmp_path / name, f"id,x,label\ns{n},1,up\ns{n},2,up\n")
    paths = {flag: str(tmp_path / name) for flag, name in flags.items()}
    found = read(**{"data_dir": str(tmp_path)} | paths)
    assert (found.parts if parts is None else found.parts.tolist()) == parts
    assert set(found.names) == {f"s{n}" for name, n in names.items() if name.endswith("csv")}


def test_a_file_that_is_named_takes_the_place_of_the_folders(tmp_path):
    for name in "train.csv", "test.csv", "other.csv":
        save(tmp_path / name, f"id,x,label\n{name},1,up\n{name},2,up\n")
    found = read(str(tmp_path), test_data=str(tmp_path / "other.csv"))
    assert found.names.tolist() == ["train.csv", "other.csv"] and found.parts.tolist() == [TRAIN, TEST]
    assert f"{tmp_path}/test.csv: is not read, --test_data is in its place" in found.notes


def test_an_index_of_pandas_is_left_out(tmp_path):
    frame = pandas.DataFrame({"id": ["a", "a"], "x": [1, 2], "label": "up"}, index=[4, 7])
    frame.to_parquet(tmp_path / "t.parquet")
    frame.to_csv(tmp_path / "t.tsv", sep="\t")
    for path in tmp_path / "t.parquet", tmp_path / "t.tsv":
        found = read(str(path))
        assert [channel.name for channel in found.channels] == ["x"]
        assert found.notes[0] == f"{path}: a column without a name counts the rows and is left out"


def test_a_header_of_any_length(tmp_path):
    frame = wide_frame([np.ones([6000, 2]), np.zeros([6000, 2])], ["up", "no"])
    frame.to_csv(tmp_path / "t.csv", index=False)
    found = read(str(tmp_path / "t.csv"))
    assert found.lengths.tolist() == [6000, 6000] and found.steps.mean(0).tolist() == [0.5, 0.5]


def test_a_file_without_ids_is_a_sequence(tmp_path):
    for name in "mon", "tue":
        save(tmp_path / f"{name}.csv", "time,x,label\n0,1,up\n1,2,up\n")
    found = read(str(tmp_path))
    assert found.names.tolist() == ["mon", "tue"] and found.lengths.tolist() == [2, 2]
    assert found.where(1) == f"{tmp_path}/tue.csv, line 2"


def test_categories_of_a_table_are_the_union_over_its_files(tmp_path):
    save(tmp_path / "train.csv", "id,x,label\na,1,up\na,one,up\na,two,up\na,two,up\na,one,up\n")
    save(tmp_path / "test.csv", "id,x,label\na,2,up\na,1,up\n")
    found = read(str(tmp_path))
    assert found.channels == (Channel("x", ("1", "2", "one", "two")),)
    assert found.steps[:, 0].tolist() == [0, 2, 3, 3, 2, 1, 0] and found.names.tolist() == ["a", "a"]


@pytest.mark.parametrize("parted", [False, True])
def test_arrays_of_files(parted, tmp_path):
    x, y = np.arange(24.0).reshape(4, 3, 2), np.array([0, 1, 1, 0])
    arrays = {"x": x, "y": y, "groups": np.array(["a", "a", "b", "b"]), "note": np.array(1)}
    if parted:
        arrays = {"x_train": x, "y_train": y, "x_val": x + 1, "y_val": y, "X_test": x + 2, "y_test": y}
    np.savez(tmp_path / "data.npz", **arrays)
    os.makedirs(tmp_path / "folder")
    for name, values in arrays.items():
        np.save(tmp_path / "folder" / f"{name}.npy", values)
    for path in tmp_path / "data.npz", tmp_path / "folder":
        found = read(str(path))
        whole = np.concatenate([x, x + 1, x + 2]) if parted else x
        np.testing.assert_array_equal(found.steps, whole.reshape(-1, 2))
        assert found.target[:, 0].tolist() == y.tolist() * (3 if parted else 1)
        if parted:
            assert found.parts.tolist() == [TRAIN] * 4 + [VALIDATION] * 4 + [TEST] * 4
            assert found.where(5) == f"{path}: x_val[1]"
        else:
            assert found.parts is None and found.groups.tolist() == ["a", "a", "b", "b"]
            assert found.notes[-1] == f"{path}: not read: note"


@pytest.mark.parametrize("y, per_step, shape", [
    ([0, 1], False, (2, 1)), ([[0.5, 1], [2, 3]], False, (2, 2)), ([[0, 1, 1], [1, 0, 0]], True, (6, 1)),
    (np.zeros([2, 3, 4]), True, (6, 4)), (["a", "b"], False, (2, 1))])
def test_targets_of_arrays(y, per_step, shape):
    found = of_arrays(np.zeros([2, 3]), y)
    assert found.per_step == per_step and found.target.shape == shape
    assert found.target.ravel().tolist() == np.ravel(np.array(y, object)).tolist()


def test_ragged_arrays():
    rows = [np.ones([2, 3]), np.zeros([1, 3])]
    found = of_arrays(rows, [[1, 2], [3]], channels=["a", "b", "c"])
    assert found.lengths.tolist() == [2, 1] and found.per_step and found.target.tolist() == [[1], [2], [3]]
    assert [channel.name for channel in found.channels] == ["a", "b", "c"]

    class Ragged:
        def to_list(self):
            return [[1.0, 2.0], [3.0]]

    assert of_arrays(Ragged()).steps.tolist() == [[1], [2], [3]]
    padded = of_arrays([[1, np.nan, 2, np.nan], [np.nan] * 4])
    assert padded.lengths.tolist() == [3] and padded.notes == (
        "2 of 2 sequences end with NaN alone, which is taken as padding",
        "1 of 2 sequences have no step and are left out, the first is x[1]")


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(*[st.text("ab,;|\t\n\" ", max_size=4).map("{}x".format)] * 3), min_size=3,
                max_size=6))
def test_rows_of_a_csv_text_are_those_that_were_written(separator, rows):
    frame = pandas.DataFrame(rows, columns=["one", "two", "three"])
    text = frame.to_csv(index=False, sep=separator, quoting=1)
    assert encoding.separator(text) == separator
    assert [tuple(row) for _, row in encoding.rows(text, separator, "")][1:] == rows


def test_tensorflow_is_not_imported(tmp_path):
    np.savez(tmp_path / "t.npz", x=np.zeros([2, 3]), y=[0, 1])
    code = (f"import sys; from santm_tf.tasks.reading import read; read({str(tmp_path / 't.npz')!r})\n"
            "print({'tensorflow', 'pandas', 'pyarrow'} & {*sys.modules})")
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "set()\n"

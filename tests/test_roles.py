"""What the columns of a table are taken for."""

import pandas
import pytest

from santm_tf.tasks.reading import read


def save(folder, text):
    (folder / "t.csv").write_text(text)
    return str(folder / "t.csv")


def test_an_id_that_is_numbered_like_the_steps_is_none_of_them(tmp_path):
    rows = [f"Y{n},{n},{n + 1},{n + 2}" for n in range(4)]
    found = read(save(tmp_path, "\n".join(["V1,V2,V3,V4", *rows]) + "\n"), forecast=True)
    assert found.steps.reshape(4, 3).tolist() == [[n, n + 1, n + 2] for n in range(4)]


def test_a_failure_is_taken_as_what_is_predicted(tmp_path):
    found = read(save(tmp_path, "id,x,failure\na,1,0\na,2,0\nb,3,1\nb,4,1\n"))
    assert found.targets == ("failure",) and [channel.name for channel in found.channels] == ["x"]


def test_differences_of_time_are_times(tmp_path):
    frame = pandas.DataFrame({"id": "a", "time": pandas.to_timedelta([3, 1, 2], "s"), "x": [3, 1, 2], "y": 1})
    frame.to_parquet(tmp_path / "t.parquet")
    assert read(str(tmp_path / "t.parquet")).steps[:, 0].tolist() == [1, 2, 3]


@pytest.mark.parametrize("name", ["Time (s)", "time_ms", "Timestamp [UTC]", "t/s"])
def test_a_time_has_its_unit_behind_it(name, tmp_path):
    found = read(save(tmp_path, f"id,{name},x,label\na,2,2,up\na,1,1,up\nb,1,3,no\nb,2,4,no\n"))
    assert [channel.name for channel in found.channels] == ["x"]
    assert found.steps[:, 0].tolist() == [1, 2, 3, 4]


def test_an_axis_with_its_unit_is_no_label(tmp_path):
    found = read(save(tmp_path, "id,x (m),y (m),state\na,1,1,up\na,2,2,up\nb,1,3,no\nb,2,4,no\n"))
    assert [channel.name for channel in found.channels] == ["x (m)", "y (m)"]

"""Data that unpack to more than is asked for, devices, pipes and links: one line, and little memory."""

import os
import struct
import zipfile

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from santm_tf.tasks import imdb, sources
from santm_tf.tasks.tokens import tokens
from santm_tf.training import flags
from santm_tf.training.errors import UsageError
from santm_tf.training.run import load_task
from tests.helpers import task_refused

GB = 0.002  # of the limit below
OVER = (f"with it there are more than --max_data_gb={GB} of data; give less, or a higher limit if there is "
        "the memory")


def refused(name, **given):
    """The line that refuses data in this limit."""
    with sources.at_most(GB):
        return task_refused(name, **given)


def bomb(path, size=10**8, end=""):
    """A zip of a folder for each of two classes, whose first file is so many spaces."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for n in range(8):
            file.writestr(f"{'ab'[n % 2]}/{n}{end}", b" " * size if n == 0 else b"word %d" % n)
    return str(path)


@pytest.mark.parametrize("task, end", [("text", ".txt"), ("sounds", ".wav")])
def test_a_zip_is_unpacked_up_to_the_limit(task, end, tmp_path):
    path = bomb(tmp_path / "a.zip", end=end)
    assert os.path.getsize(path) < 10**6
    assert refused(task, data_dir=path) == f"{path}: a/0{end}: {OVER}"


def test_what_comes_out_is_counted_whatever_the_header_says(tmp_path):
    with zipfile.ZipFile(bomb(tmp_path / "a.zip")) as file, sources.at_most(GB):
        file.getinfo("a/0").file_size = 10**5
        with pytest.raises(zipfile.BadZipFile):  # zipfile reads no more than is said
            sources.unpacked(file, "a/0", "a")
    with zipfile.ZipFile(bomb(tmp_path / "a.zip", 10**6)) as file, sources.at_most(GB):
        assert len(sources.unpacked(file, "a/0", "a")) == 10**6
        with pytest.raises(ValueError, match="^b: with it there are more"):  # all files together
            for _ in range(2):
                sources.unpacked(file, "a/0", "b")


def test_packed_arrays_are_counted_before_they_are_made(tmp_path):
    path = str(tmp_path / "mnist.npz")
    np.savez_compressed(path, x_train=np.zeros([10**4, 28, 28], "u1"), x=np.zeros([10**4, 40]), y=[0, 1])
    assert refused("mnist", data_dir=path) == f"{path}: x_train: {OVER}"
    assert refused("sequences", data_dir=path) == f"{path}: x_train: {OVER}"
    os.rename(path, path := str(tmp_path / "imdb.npz"))
    np.savez_compressed(path, x_train=np.zeros([10**6], "i8"), y_train=[0], x_test=[0], y_test=[0])
    assert refused("text", data_dir=path) == f"{path}: x_train: {OVER}"
    shared = [7] * 10**5  # in a pickle it is there once
    reviews = np.empty(10, object)
    reviews[:] = [shared] * 10
    np.savez_compressed(path, x_train=reviews, y_train=[0] * 10, x_test=reviews, y_test=[0] * 10)
    assert refused("text", data_dir=path) == f"{path}, x_train[3]: {OVER}"
    nested = shared[:10]
    for _ in range(30):
        nested = [nested] * 10
    with pytest.raises(ValueError, match="is no list of words' numbers"):
        imdb._words(nested, "x")


def test_packed_rows_are_counted(tmp_path):
    path = str(tmp_path / "a.parquet")
    parquet.write_table(pyarrow.table({"x": np.zeros(10**6), "label": np.zeros(10**6)}), path)
    assert os.path.getsize(path) < 10**5
    assert refused("sequences", data_dir=path) == f"{path}: {OVER}"


def test_a_record_that_says_it_is_longer_than_its_file_is_refused(tmp_path):
    path = tmp_path / "a.tfrecord"
    path.write_bytes(struct.pack("<Q", 10**11) + b"0" * 20)
    assert refused("sequences", data_dir=str(path)) == (
        f"{path}: cannot be read as TFRecord after record 0 (the next one is of 100,000,000,000 bytes, and "
        "the file of 28)")


def test_files_are_counted_together_up_to_the_flag(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        for n in range(6):
            (tmp_path / name / f"{n}.txt").write_text(f"{name} {n} " + " " * 10**5)
    given = ["program", "--workdir=unused", "--task=text", f"--data_dir={tmp_path}", "--batch_size=1"]
    assert load_task(flags.parse([*given, "--max_data_gb=0.002"])).classes == ["a", "b"]
    with pytest.raises(UsageError, match="more than --max_data_gb=0.001 of data; give less"):
        load_task(flags.parse([*given, "--max_data_gb=0.001"]))


def test_tokens_are_split_up_to_the_most():
    text = "word " * 10**6
    assert tokens(text, "word", 3) == ["word"] * 3 and tokens(text, "char", 3) == "wor"
    assert tokens("a b", "word") == ["a", "b"]


@pytest.mark.parametrize("task", ["text", "sounds", "sequences", "words", "chars", "mnist", "shards"])
def test_a_device_and_a_pipe_are_refused(task, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    for path in "/dev/zero", tmp_path / "pipe", tmp_path / "link":
        assert refused(task, data_dir=str(path)) == (
            f"--data_dir={path}: is a device or a pipe; name a file or a folder")


@pytest.mark.parametrize("task, end", [("text", "txt"), ("sounds", "wav"), ("sequences", "csv")])
def test_links_and_pipes_in_a_folder_are_refused(task, end, tmp_path):
    other, odd = tmp_path / "other", tmp_path / "data" / "train" / f"x.{end}"
    other.mkdir()
    odd.parent.mkdir(parents=True)
    for target in other, "..", "/dev/zero", f"x.{end}":
        odd.symlink_to(target)
        assert refused(task, data_dir=str(tmp_path / "data")) == (
            f"{odd}: is a link to {os.path.realpath(odd)}; put what it names in its place, or name that as "
            "the data")
        odd.unlink()
    os.mkfifo(odd)
    assert refused(task, data_dir=str(tmp_path / "data")) == f"{odd}: is a device or a pipe; take it away"


@pytest.mark.parametrize("task, name", [("text", "imdb.npz"), ("text", "train.csv"), ("mnist", "mnist.npz"),
                                        ("words", "train.txt"), ("chars", "train.txt")])
def test_a_file_that_a_task_names_is_no_link_out_of_its_folder(task, name, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / name).symlink_to("/etc/passwd")
    assert refused(task, data_dir=str(tmp_path / "data")).startswith(
        f"{tmp_path}/data/{name}: is a link to /etc/passwd; put ")


def test_a_link_in_a_zip_is_refused(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        link = zipfile.ZipInfo("a/link.txt")
        link.external_attr = 0o120777 << 16
        file.writestr(link, "/etc/passwd")
    assert refused("text", data_dir=str(path)) == (
        f"{path}: a/link.txt is a link; make the zip anew with the file in its place")


def test_flag_files_that_have_no_end_are_refused(tmp_path):
    with pytest.raises(UsageError, match="^--flagfile=/dev/zero: is no file, but a device or a pipe"):
        flags.parse(["program", "--workdir=unused", "--flagfile=/dev/zero"])

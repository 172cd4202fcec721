"""The processes of a cluster: who they are, and that they agree. No process is started."""

import json
import socket
import threading

import pytest

from santm_tf.training import cluster, launch
from santm_tf.training.cluster import Cluster, join, of_environment
from santm_tf.training.commands import train
from santm_tf.training.errors import UsageError
from tests.programs import refused

TWO = ["a:1", "b:1"]


def config(jobs=None, kind="worker", index=0):
    return json.dumps({"cluster": jobs or {"worker": TWO}, "task": {"type": kind, "index": index}})


@pytest.mark.parametrize("jobs, kind, index, place", [
    (None, "worker", 1, 1), ({"chief": ["c:9"], "worker": TWO}, "chief", 0, 0),
    ({"chief": ["c:9"], "worker": TWO}, "worker", 1, 2)])
def test_the_chief_is_first(jobs, kind, index, place):
    found = of_environment({"TF_CONFIG": config(jobs, kind, index)})
    assert found.index == place and found.chief == (place == 0)
    assert of_environment({"TF_CONFIG": found.variable}) == found


def test_processes_of_a_machine_are_counted():
    found = Cluster(("a:1", "b:1", "a:2", "a:3", "a:4"), 3)
    assert (found.here, found.before_here) == (4, 2)


@pytest.mark.parametrize("text, part", [
    ("{x", "is not JSON"), ("[]", 'must be {"cluster"'), ('{"cluster": {}}', 'must be {"cluster"'),
    (config(index=2), "this is worker 2, and the cluster has 2 of the job worker"),
    (config(index=-1), "this is worker -1"), (config(kind="evaluator"), "this is evaluator 0"),
    (config({"worker": TWO, "ps": ["c:1"]}), "has the job ps"),
    (config({"worker": ["a:1", "a:1"]}), "two workers have the address a:1"),
    (config({"worker": ["a", "b:1"]}), "a: must be host:port")])
def test_a_cluster_that_cannot_be_is_one_line(text, part):
    with pytest.raises(UsageError, match="TF_CONFIG: ") as error:
        of_environment({"TF_CONFIG": text})
    assert part in str(error.value) and "\n" not in str(error.value)


def test_slurm_names_the_cluster(monkeypatch):
    slurm = {"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "3", "SLURM_STEP_NODELIST": "n[1-2]",
             "SLURM_STEP_TASKS_PER_NODE": "2,1"}
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("TF_CONFIG", raising=False)
    found = of_environment()
    assert found == Cluster(("n1:8888", "n1:8889", "n2:8888"), 2)
    monkeypatch.delenv("SLURM_STEP_NODELIST")
    with pytest.raises(UsageError, match="srun"):
        of_environment()


def joined(count, seconds=10.0, facts=None, folders=None, indices=None):
    """What each of some threads says that joins as a process would: None, or its error."""
    addresses, said = tuple(f"127.0.0.1:{port}" for port in launch.free_ports(count)), {}

    def run(index):
        try:
            join(Cluster(addresses, index), seconds, (facts or [{}] * count)[index], str(folders[index]))
            said[index] = None
        except UsageError as error:
            said[index] = str(error)

    threads = [threading.Thread(target=run, args=[index]) for index in indices or range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    return said


def test_processes_that_agree_go_on(tmp_path):
    assert joined(4, folders=[tmp_path / "run"] * 4) == dict.fromkeys(range(4))
    assert not list((tmp_path / "run").iterdir())


def test_a_process_with_other_flags_ends_all(tmp_path):
    facts = [{"units": "--units=8"}, {"units": "--units=8"}, {"units": "--units=4"}]
    said = joined(3, facts=facts, folders=[tmp_path] * 3)
    assert len(set(said.values())) == 1 and len(said) == 3
    assert "worker 2" in said[0] and "has --units=4, and the chief --units=8" in said[0]


def test_a_folder_that_is_not_shared_ends_all(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "SHARED_WITHIN", 0.2)
    said = joined(2, folders=[tmp_path / "mine", tmp_path / "yours"])
    assert said[0] == said[1] and "worker 1" in said[0] and f"--workdir={tmp_path / 'mine'}" in said[0]


@pytest.mark.parametrize("indices, missing", [([0, 2], "worker 1"), ([1, 2], "the chief")])
def test_who_does_not_come_is_named(indices, missing, tmp_path):
    said = joined(3, seconds=0.5, folders=[tmp_path] * 3, indices=indices)
    assert all(line.startswith("--join_seconds=0.5: ") and missing in line for line in said.values())
    assert said.keys() == set(indices)


def test_what_is_no_worker_is_left_alone(tmp_path):
    """As a browser or a scanner of ports, which comes before the worker."""
    address, = launch.free_ports(1)
    addresses = (f"127.0.0.1:{address}", f"127.0.0.1:{launch.free_ports(1)[0]}")
    chief = threading.Thread(target=join, args=[Cluster(addresses, 0), 10.0, {}, str(tmp_path)])
    chief.start()
    while True:
        try:
            with socket.create_connection(("127.0.0.1", address)) as other:
                other.sendall(b"GET / HTTP/1.1\r\n\r\n")
            break
        except OSError:
            continue
    join(Cluster(addresses, 1), 10.0, {}, str(tmp_path))
    chief.join(10)
    assert not chief.is_alive()


@pytest.mark.parametrize("more, environment, part", [
    ([], {}, "--strategy=multiworker: there is no cluster; set TF_CONFIG"),
    (["--batch_size=1"], {"TF_CONFIG": config()}, "--batch_size=1: is the batch of all 2 workers"),
    (["--devices=2"], {}, "--devices=2: needs --strategy=mirrored"),
    ([], {"TF_CONFIG": "port"}, "cannot be had (Address already in use)")])
def test_the_program_says_what_is_wrong(more, environment, part, tmp_path, capsys, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        if environment.get("TF_CONFIG") == "port":
            port = taken.getsockname()[1]
            environment = {"TF_CONFIG": config({"worker": [f"127.0.0.1:{port}", "127.0.0.1:1"]})}
        for name in "TF_CONFIG", "SLURM_PROCID":
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        asked = ["--task=adding", "--model=lstm", f"--workdir={tmp_path}/run", "--strategy=multiworker"]
        assert part in refused(capsys, train, *asked, *more)
    assert not (tmp_path / "run").exists()

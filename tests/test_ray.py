"""Ray Train starts the workers, on this machine."""

import json
import os
import sys

import pytest

pytest.importorskip("ray.train", reason="Ray is the extra `ray`")

FLAGS = ["--task=adding", "--length=8", "--steps_per_epoch=4", "--epochs=1", "--units=4", "--model=lstm",
         "--batch_size=6", "--nojit_compile"]


def test_its_workers_train_as_one_process_does(tmp_path):
    import ray
    from ray.train import RunConfig, ScalingConfig
    from ray.train.tensorflow import TensorflowTrainer

    from santm_tf.training import commands

    def train(config):
        from santm_tf.training import commands

        commands.train(["santm-train", *config["flags"]])

    shared = str(tmp_path / "shared")
    paths = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    ray.init(num_cpus=2, include_dashboard=False, runtime_env={"env_vars": paths})
    try:
        TensorflowTrainer(
            train, train_loop_config={"flags": [*FLAGS, f"--workdir={shared}", "--strategy=multiworker"]},
            scaling_config=ScalingConfig(num_workers=2),
            run_config=RunConfig(storage_path=str(tmp_path / "ray"))).fit()
    finally:
        ray.shutdown()
    commands.train(["santm-train", *FLAGS, f"--workdir={tmp_path}/alone"])
    losses = [json.loads((tmp_path / name / "metrics.json").read_text())["result"]["test_loss"]
              for name in ("shared", "alone")]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)

"""Minari records the costs of an environment. It is installed into a folder of its own, beside this environment."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("gymnasium")

SCRIPT = """
import gymnasium, minari, numpy as np
import mjx_safety.interop.gymnasium

env = gymnasium.make("mjx_safety/SafetyPointGoal1-v0", physics="mujoco", max_episode_steps=5)
env = minari.DataCollector(env, record_infos=True)
rng = np.random.default_rng(0)
costs = []
for seed in range(2):
    env.reset(seed=seed)
    done = False
    while not done:
        *_, terminated, truncated, info = env.step(rng.uniform(-1, 1, 2).astype(np.float32))
        costs.append(info["cost"])
        done = terminated or truncated
data = env.create_dataset(dataset_id="safety/point-v0", algorithm_name="random", code_permalink="x", author="x",
                          author_email="x@example.org", eval_env="mjx_safety/SafetyPointGoal1-v0")
infos = [episode.infos for episode in data]
assert [len(info["cost"]) for info in infos] == [6, 6]
assert np.concatenate([info["cost"][1:] for info in infos]).tolist() == costs
recovered = data.recover_environment()
assert recovered.spec.max_episode_steps == 5
print("recorded", sorted(infos[0]))
"""


@pytest.mark.slow
def test_minari_records_costs(tmp_path):
    libraries = tmp_path / "libraries"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--target", libraries, "--no-deps", "minari[hdf5]"]
    install += ["h5py", "typer", "typing-extensions", "portion", "tqdm", "click", "shellingham", "docstring-parser"]
    done = subprocess.run(install, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"minari cannot be installed: {done.stderr.strip().splitlines()[-1]}")
    paths = os.pathsep.join([*sys.path, str(libraries)])  # what is installed here counts first
    env = os.environ | {"PYTHONPATH": paths, "MINARI_DATASETS_PATH": str(tmp_path / "data"), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=env, capture_output=True, text=True, cwd=tmp_path)
    assert "recorded ['cost', 'cost_hazards', 'goal_met', 'placement_failed']" in done.stdout, done.stderr[-3000:]

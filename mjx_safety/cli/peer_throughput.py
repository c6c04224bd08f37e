"""Measures steps per second of safety-gymnasium's vector environments, in an interpreter without this package.

python peer_throughput.py SafetyPointGoal1-v0 NUM_STEPS REPEATS

Prints one line of JSON per kind of vector environment and number of worlds.
"""

import json
import os
import statistics
import sys
import time


def main(env_id: str, num_steps: int, repeats: int) -> None:
    """Time single, synchronous and asynchronous stepping by random actions, resets included."""
    import safety_gymnasium

    cores = os.cpu_count() or 1
    for kind, num_envs in (("single", 1), ("sync", 4), ("async", cores), ("async", 2 * cores)):
        if kind == "single":
            env = safety_gymnasium.make(env_id)
        else:
            env = safety_gymnasium.vector.make(env_id, num_envs=num_envs, asynchronous=kind == "async")
        env.reset(seed=0)
        seconds = []
        for repeat in range(repeats + 1):
            begun = time.perf_counter()
            for _ in range(num_steps):
                _, _, _, terminated, truncated, _ = env.step(env.action_space.sample())
                if kind == "single" and (terminated or truncated):
                    env.reset()
            if repeat:  # the first repeat is the warm-up
                seconds.append(time.perf_counter() - begun)
        env.close()
        speed = num_steps * num_envs / statistics.median(seconds)
        row = {"env": env_id, "engine": f"safety-gymnasium {kind}", "mode": "step", "num_envs": num_envs}
        print(
            json.dumps({**row, "env_steps_per_second": speed, "compile_seconds": 0.0, "repeats": seconds}), flush=True
        )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))

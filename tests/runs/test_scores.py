"""Published scores, normalised scores and their means, and what the rows of a training say."""

import json

import pytest

from mjx_safety.agents import ALGORITHMS
from mjx_safety.registry import BENCHMARK_IDS, ENV_IDS_2019
from mjx_safety.runs import scores
from mjx_safety.runs.scores import SUBSETS, NormalisedScores, normalise, subset_means, training_facts
from mjx_safety.world.locomotion.robots import ROBOTS

POINT_GOAL = "SafetyPointGoal1-v0"
PPO_LAG = (2946.15, 306.35, 3.44, 4.77)  # on HalfCheetahVelocity


def test_published_tables_are_whole():
    tables = scores.published_scores()
    for table in tables.values():
        assert table["source"] and table["caveat"]
    assert set(tables["safety_gym_ppo"]["scores"]) == set(SUBSETS["SG18"])
    assert all(len(row) == len(scores.Reference._fields) for row in tables["safety_gym_ppo"]["scores"].values())
    omnisafe = tables["omnisafe"]
    assert set(omnisafe["names"].values()) == set(omnisafe["scores"])
    for rows in omnisafe["scores"].values():
        assert set(rows) <= {*SUBSETS["SG18"], *(f"{robot.name}Velocity" for robot in ROBOTS)}
        assert all(len(row) == len(scores.Published._fields) - 1 for row in rows.values())
    assert set(ALGORITHMS) - set(omnisafe["names"]) <= {"ipo", "crpo"}  # OmniSafe has no numbers of these


def test_ids_find_their_numbers():
    assert scores.task_of(POINT_GOAL) == scores.task_of("Safexp-PointGoal1-v0") == "PointGoal1"
    for ids in (BENCHMARK_IDS, ENV_IDS_2019):
        assert {scores.task_of(name) for name in ids if scores.reference(name)} == set(SUBSETS["SG18"])
    for other in ("my.module:factory", "SafetyPointGoal1-v0-mine", "SafetyPointCircle1-v0", "SafetyPointGoal0-v0"):
        assert scores.reference(other) is None and normalise(other, 1.0, 1.0, 1.0, 25.0) is None
    assert scores.published("cpo", POINT_GOAL) == ("CPO", 20.5, 1.38, 28.8, 7.76)
    assert scores.published("ppo-pid", "SafetyCarGoal1-v0") == ("CPPO-PID", 10.6, 2.51, 30.7, 7.53)
    assert scores.published("sac-lag", POINT_GOAL) == ("SAC-Lag", 21.4, 6.97, 19.2, 9.72)
    assert scores.published("ppo-lag", "SafetyHalfCheetahVelocity-v1") == ("PPO-Lag", *PPO_LAG)
    assert scores.published("ppo-lag", "SafetyHalfCheetahVelocity-v0") is None
    assert scores.published("crpo", POINT_GOAL) is None
    assert scores.published("sac-lag", "SafetyPointButton1-v0") is None


def test_subsets():
    assert {name: len(tasks) for name, tasks in SUBSETS.items()} == {
        "SG6": 6,
        "SG18": 18,
        "SG1": 9,
        "SG2": 9,
        "SGPoint": 6,
        "SGCar": 6,
        "SGDoggo": 6,
    }
    assert set(SUBSETS["SG6"]) <= set(SUBSETS["SG18"])
    assert set(SUBSETS["SG1"]) | set(SUBSETS["SG2"]) == set(SUBSETS["SG18"])


def test_normalised_scores_by_hand():
    assert normalise(POINT_GOAL, 25.179, 53.109, 0.063, 25.0) == pytest.approx((1.0, 1.0, 1.0))
    half_way = normalise(POINT_GOAL, 12.5895, 25.0 + 28.109 / 4, 0.0315, 25.0)
    assert half_way == pytest.approx((0.5, 0.25, 0.5))
    assert normalise(POINT_GOAL, -1.0, 10.0, None, 25.0) == pytest.approx((-1 / 25.179, 0.0, None))
    beyond = normalise("SafetyDoggoPush1-v0", 0.821, 30.0, 0.049, 29.958)  # PPO is within: divided by 1e-6
    assert beyond is not None and beyond.violation == pytest.approx(0.042 / 1e-6)


def test_subset_means_are_of_tasks_after_seeds():
    one, three = NormalisedScores(1.0, 0.0, 0.5), NormalisedScores(3.0, 1.0, 0.5)
    table = {task: [one] for task in SUBSETS["SG6"]} | {"PointGoal1": [one, three, three, three]}
    means = subset_means(table)
    assert means["SG6"].missing == ()
    assert means["SG6"].scores == pytest.approx(((5 * 1.0 + 2.5) / 6, 0.75 / 6, 0.5))
    assert means["SGDoggo"].scores is None
    assert means["SGDoggo"].missing == tuple(task for task in SUBSETS["SGDoggo"] if task != "DoggoGoal1")
    unknown = subset_means(table | {"CarGoal1": [NormalisedScores(1.0, 0.0, None)]})["SG6"].scores
    assert unknown is not None and unknown.cost_rate_ratio is None and unknown.return_ratio is not None


def rows(costs, estimate=None, **more):
    """Iterations of 10 steps and 2 s; costs: of episodes, None where none has ended."""
    return [
        {
            "env_steps": 10 * (i + 1),
            "seconds": 2.0 * (i + 1),
            "cost_rate": 0.1 * i,
            "episode_cost": cost,
            "episode_return": cost,
            "cost_estimate": estimate,
        }
        | {name: values[i] for name, values in more.items()}
        for i, cost in enumerate(costs)
    ]


def test_time_to_feasibility_and_crossings():
    facts = training_facts(rows([None, 30, 20, 40, 25, 26, 25, 10, 0, 5], estimate=50.0), 25.0)
    assert facts is not None
    assert (facts["first_feasible_steps"], facts["first_feasible_seconds"]) == (30.0, 6.0)
    assert (facts["feasible_steps"], facts["feasible_seconds"]) == (70.0, 14.0)  # 26 at 60 is the last one over
    # after 20 steps: 20 40 25 26 25 10 0 5
    assert facts["over_limit_share"] == 2 / 8
    assert facts["worst_violation"] == 15.0
    assert facts["crossings"] == 4
    assert facts["cost_rate"] == pytest.approx(0.45) and facts["total_cost"] == pytest.approx(45.0)
    assert facts["last_tenth_cost"] == 5.0


def test_never_and_always_feasible():
    never = training_facts(rows([30.0] * 10), 25.0)
    assert never is not None and never["over_limit_share"] == 1.0 and never["crossings"] == 0
    assert never["feasible_steps"] is None and never["first_feasible_seconds"] is None
    always = training_facts(rows([25.0] * 10), 25.0)
    assert always is not None and always["feasible_steps"] == always["first_feasible_steps"] == 10.0
    late = training_facts(rows([0.0] * 9 + [30.0]), 25.0)
    assert late is not None and late["feasible_steps"] is None and late["first_feasible_steps"] == 10.0
    assert training_facts([], 25.0) is None


def test_limits_for_sources_go_by_the_violation():
    facts = training_facts(rows([99.0] * 5, violation=[3.0, 2.0, 1.0, 0.0, -1.0]), 25.0, by_violation=True)
    assert facts is not None and facts["feasible_steps"] == 40.0 and facts["worst_violation"] == 2.0


def test_lost_rows_do_not_shift_the_cost_rate():
    kept = rows([0.0] * 4)
    del kept[1]  # the next one stands for its steps: 10 of 0, 20 of 0.2, 10 of 0.3
    facts = training_facts(kept, 25.0)
    assert facts is not None and facts["total_cost"] == pytest.approx(7.0)
    assert facts["cost_rate"] == pytest.approx(7.0 / 40)


def settings(env=POINT_GOAL, rate=0.1, limit=25.0):
    run = {"algo": "ppo", "env": env, "cost_limit": limit}
    return json.dumps({"run": run, "algorithm": {"learning_rate": rate}})


def result(name, env=POINT_GOAL, seed=0, gain=1.0, feasible=None, limit=25.0):
    return {
        "run": name,
        "env": env,
        "algo": "ppo",
        "seed": seed,
        "cost_limit": limit,
        "env_steps": 10,
        "policies": {"mean": {"episode_return_mean": gain}},
        "training": {"feasible_steps": feasible},
        "normalised": {"mean": NormalisedScores(gain, 0.0, 1.0)._asdict()},
    }


def test_groups_are_seeds_of_the_same_settings():
    pairs = [
        (settings(), result("a", gain=1.0, feasible=1.0)),
        (settings(rate=0.2), result("b", gain=9.0)),
        (settings(), result("c", seed=1, gain=3.0)),
    ]
    both, single = scores.group_results(pairs)
    assert (both["runs"], both["seeds"], both["num_seeds"]) == (["a", "c"], [0, 1], 2)
    assert (both["differs_in"], single["differs_in"]) == ("learning_rate 0.1", "learning_rate 0.2")
    gain = both["statistics"]["policies"]["mean"]["episode_return_mean"]
    assert gain == {"mean": 2.0, "std": pytest.approx(2.0**0.5)}
    assert both["statistics"]["training"]["feasible_steps"] is None  # one seed never was
    assert single["statistics"]["env_steps"] == {"mean": 10.0, "std": None}


def test_subset_scores_need_one_setting_for_each_task():
    ids = {task: f"Safety{task}-v0" for task in SUBSETS["SG6"]}
    pairs = [(settings(env), result(task, env, gain=i)) for i, (task, env) in enumerate(ids.items())]
    found = scores.subset_scores(scores.group_results(pairs), [r for _, r in pairs], "mean")["ppo, limit 25"]
    assert found["SG6"]["scores"] == {"return_ratio": 2.5, "violation": 0.0, "cost_rate_ratio": 1.0}
    lines = scores.describe_subsets("ppo", found)
    assert "ppo, SG6: return ratio 2.500, violation 0.000, cost rate ratio 1.000" in lines
    assert "ppo, SG18: lacks 12 of 18 tasks" in lines
    assert "ppo, SGCar: lacks CarGoal2, CarButton1, CarButton2, CarPush1, CarPush2" in lines

    pairs += [(settings(rate=0.2), result("other")), (settings(limit=5.0), result("strict", limit=5.0))]
    found = scores.subset_scores(scores.group_results(pairs), [r for _, r in pairs], "mean")
    assert found["ppo, limit 25"] == {"ambiguous": ["PointGoal1"]}
    assert found["ppo, limit 5"]["SG6"]["missing"] == list(SUBSETS["SG6"][1:])

    own = [(settings("mine:env"), result("mine", "mine:env"))]
    assert scores.subset_scores(scores.group_results(own), [own[0][1]], "mean") == {}


def test_a_limit_is_kept_if_the_interval_of_the_cost_reaches_it():
    def seed(cost, half_width):
        return {"episode_cost_mean": cost, "episode_cost_ci95": half_width}

    assert scores.keeps_limit([seed(25.0, 0.0)], 25.0) and not scores.keeps_limit([seed(26.0, 0.5)], 25.0)
    assert scores.keeps_limit([seed(26.0, 1.5)], 25.0)
    both = [seed(26.5, 3.0), seed(28.5, 4.0)]  # mean 27.5, half width 5 / 2 of two independent seeds
    assert scores.keeps_limit(both, 25.0) and not scores.keeps_limit(both, 24.9)


@pytest.mark.parametrize(("limit", "phrase"), [(25.0, "limit 25"), (float("inf"), "no limit"), (None, "no limit")])
def test_an_infinite_limit_is_no_limit_in_the_name_of_a_group(limit, phrase):
    assert scores.limit_phrase(limit) == phrase
    group = {"env": "SafetyPointGoal1-v0", "algo": "ppo-lag", "cost_limit": limit, "runs": ["a"]}
    result = {"run": "a", "normalised": {"mean": NormalisedScores(1.0, 0.5, None)._asdict()}}
    assert list(scores.subset_scores([group], [result], "mean")) == [f"ppo-lag, {phrase}"]


def test_settings_that_a_policy_of_an_earlier_version_lacks_are_no_difference():
    older = json.dumps(json.loads(settings()) | {"algorithm": {}})
    groups = scores.group_results([(settings(), result("a")), (older, result("b")), (settings(rate=0.2), result("c"))])
    assert [group["differs_in"] for group in groups] == ["learning_rate 0.1", "", "learning_rate 0.2"]

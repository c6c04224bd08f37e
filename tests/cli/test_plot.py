"""`python -m mjx_safety.plot`: which trainings belong together, means over seeds, and wrong input."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure

from mjx_safety.cli import plot
from mjx_safety.runs import sweeps
from mjx_safety.viz import plots
from mjx_safety.viz.plots import Curve


def write_run(path, algo="ppo-lag", seed=0, offset=0.0, num_rows=60, **changes):
    """A run folder with straight curves: the return grows by 1 per row, the cost is 30."""
    run = {"env": "SafetyPointGoal1-v0", "algo": algo, "seed": seed, "cost_limit": 25.0, "total_steps": 100 * num_rows}
    config = {"run": run | changes.pop("run", {}), "train": {"discount": 0.99} | changes, "algorithm": {}}
    rows = [
        {
            "env_steps": 100 * (i + 1),
            "episode_return": None if i < 5 else i + offset,
            "episode_cost": 30.0,
            "cost_rate": 0.02 if i < num_rows // 2 else 0.0,
            "multiplier": 0.1 * i if algo.endswith("lag") else 0.0,
        }
        for i in range(num_rows)
    ]
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(config))
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_picture_of_everything(tmp_path, capsys):
    group = tmp_path / "group"
    for seed in range(3):
        write_run(group / f"seed{seed}", seed=seed, offset=seed)
    alone = write_run(tmp_path / "alone", algo="ppo")
    assert plot.main([str(group), str(alone), str(group / "seed0"), "--out", str(tmp_path / "new" / "curves.png")]) == 0
    said = capsys.readouterr().out
    assert "ppo-lag: 3 seeds, last tenth: return 57.50 ± 1.00, cost 30.00 ± 0.00, limit 25" in said
    assert "ppo: 1 seed, last tenth: return 56.50, cost 30.00" in said
    assert (tmp_path / "new" / "curves.png").stat().st_size > 10_000


def test_limits_by_source_are_no_limit_on_the_whole_cost(tmp_path, capsys):
    path = write_run(tmp_path / "sources", run={"cost_limits": ["hazards=20"]})
    assert plot.main([str(path), "--out", str(tmp_path / "curves.png")]) == 0
    assert "cost 30.00, no limit on the whole cost" in capsys.readouterr().out


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Draw curves and return the panels by their title."""

    def draw(curves):
        figures = []
        monkeypatch.setattr(Figure, "savefig", lambda self, *_, **__: figures.append(self))
        plots.plot_curves(curves, tmp_path / "curves.png")
        return {axes.get_title(): axes for axes in figures[0].axes}

    return draw


def curves_of(tmp_path, **kinds):
    curves = []
    for label, kind in kinds.items():
        for seed in range(kind["seeds"]):
            path = write_run(tmp_path / f"{label}{seed}", offset=2 * seed, **kind["run"])
            curves.append(Curve(label, 25.0, rows_of(path)))
    return curves


def rows_of(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def test_mean_and_spread_over_seeds(tmp_path, drawn):
    panels = drawn(curves_of(tmp_path, lag={"seeds": 3, "run": {}}))
    assert list(panels) == [
        "episode return", "episode cost (dashed: limit)", "cost per step, mean since the start", "multiplier"
    ]  # fmt: skip
    returns = panels["episode return"]
    (line,) = returns.lines
    steps, mean = line.get_data()
    middle = len(steps) // 2
    np.testing.assert_allclose(mean[middle], steps[middle] / 100 - 1 + 2, atol=0.3)  # of offsets 0, 2, 4
    (band,) = returns.collections
    low, high = (getattr(band.get_paths()[0].vertices[:, 1], end)() for end in ("min", "max"))
    assert low < mean[0] - 1.5 and high > mean[-1] + 1.5
    corners = band.get_paths()[0].vertices
    height = np.ptp(corners[np.isclose(corners[:, 0], steps[middle]), 1])
    np.testing.assert_allclose(height, 2 * np.std([0.0, 2.0, 4.0], ddof=1))
    limit = panels["episode cost (dashed: limit)"].lines[-1]
    assert set(limit.get_ydata()) == {25.0} and limit.get_linestyle() == "--"
    rate = panels["cost per step, mean since the start"].lines[0].get_ydata()
    np.testing.assert_allclose([rate[0], rate[-1]], [0.02, 0.01], atol=2e-3)


def test_one_seed_shows_its_raw_values_and_algorithms_have_their_colours(tmp_path, drawn):
    panels = drawn(curves_of(tmp_path, lag={"seeds": 1, "run": {}}, free={"seeds": 1, "run": {"algo": "ppo"}}))
    returns = panels["episode return"]
    raw, smooth, *others = returns.lines
    assert raw.get_alpha() < smooth.get_linewidth() and not returns.collections
    assert len({line.get_color() for line in (smooth, others[-1])}) == 2
    assert {line.get_label() for line in panels["multiplier"].lines if not line.get_label().startswith("_")} == {"lag"}


def without_episodes(path):
    """Rows of a training that is shorter than an episode."""
    estimates = {"episode_return": None, "episode_cost": None, "return_estimate": 3.0, "cost_estimate": 7.0}
    return [row | estimates for row in rows_of(path)]


def test_a_training_shorter_than_an_episode_is_shown_by_estimates(tmp_path, drawn, monkeypatch):
    rows = without_episodes(write_run(tmp_path / "short"))
    panels = drawn([Curve("lag", 25.0, rows)])
    notes = {"episode return (dotted: estimate)": 3.0, "episode cost (dashed: limit; dotted: estimate)": 7.0}
    for title, value in notes.items():
        raw, mean = panels[title].lines[:2]
        assert set(raw.get_ydata()) == {value} and mean.get_linestyle() == ":"
    assert "return ~3.00, cost ~7.00, limit 25" in plot.describe([Curve("lag", 25.0, rows)])

    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *_, **__: figures.append(self))
    plots.plot_learning_curve(rows, 25.0, tmp_path / "curve.png", "ppo-lag on PointGoal1, seed 0")
    assert [set(axes.lines[0].get_ydata()) for axes in figures[0].axes] == [{3.0}, {7.0}]
    assert figures[0].get_suptitle() == "ppo-lag on PointGoal1, seed 0"

    rows[-1] |= {"episode_return": 2.0, "episode_cost": 6.0}
    assert plots.metric_to_show(rows, "episode_cost") == "cost_estimate", "one row of whole episodes makes no curve"
    rows[-1] |= {"episode_return": None, "episode_cost": None}

    member = SimpleNamespace(label="lag", options=SimpleNamespace(run=SimpleNamespace(cost_limit=25.0)))
    (outcome,) = sweeps.outcomes([member], [rows])
    assert (outcome.episode_return, outcome.episode_cost) == (3.0, 7.0)


def test_the_picture_names_the_environment(tmp_path):
    paths = [write_run(tmp_path / "a"), write_run(tmp_path / "b", algo="ppo")]
    assert plot.title_of(paths) == "SafetyPointGoal1-v0"
    assert plot.title_of([*paths, write_run(tmp_path / "c", run={"env": "SafetyCarGoal1-v0"})]) == ""


def test_no_multiplier_no_panel(tmp_path, drawn):
    assert "multiplier" not in drawn(curves_of(tmp_path, free={"seeds": 1, "run": {"algo": "ppo"}}))


def test_seeds_of_different_length_are_compared_as_far_as_they_go(tmp_path, drawn):
    long, short = (rows_of(write_run(tmp_path / f"r{num}", num_rows=num)) for num in (60, 30))
    panels = drawn([Curve("lag", 25.0, long), Curve("lag", 25.0, short)])
    assert panels["episode return"].lines[0].get_xdata()[-1] == 3000


def test_labels_name_what_differs(tmp_path):
    paths = [
        write_run(tmp_path / "a"),
        write_run(tmp_path / "b", seed=1),
        write_run(tmp_path / "c", run={"cost_limit": 5.0}),
        write_run(tmp_path / "d", algo="ppo", discount=0.9),
    ]
    assert [curve.label for curve in plot.read(paths)] == [
        "ppo-lag, cost limit 25", "ppo-lag, cost limit 25", "ppo-lag, cost limit 5", "ppo, cost limit 25"
    ]  # fmt: skip
    assert [curve.label for curve in plot.read([paths[0], paths[3]])] == ["ppo-lag", "ppo"]
    other = write_run(tmp_path / "e", run={"env": "SafetyCarGoal1-v0"})
    assert [curve.label for curve in plot.read([paths[0], other])] == [
        "ppo-lag, SafetyPointGoal1-v0", "ppo-lag, SafetyCarGoal1-v0"
    ]  # fmt: skip


def test_wrong_input(tmp_path, capsys):
    run, broken, silent = (tmp_path / name for name in ("run", "broken", "silent"))
    write_run(run)
    write_run(broken)
    (broken / "config.json").write_text('{"run": {}}')
    write_run(silent)
    (silent / "metrics.jsonl").unlink()
    for flags, sentence in (
        ([tmp_path / "nowhere"], "nowhere is not a run folder"),
        ([run, "--out", "curves.txt"], "--out curves.txt is of no known kind; its name must end in one of: .png"),
        ([broken], "broken/config.json cannot be read: KeyError: 'run.env'"),
        ([silent], "silent has no metrics yet"),
    ):
        assert plot.main([str(flag) for flag in flags]) == 2
        assert sentence in capsys.readouterr().err.replace("\n", " ")

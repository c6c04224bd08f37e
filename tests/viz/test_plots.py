"""Pictures of trainings show every point, and their legends whole."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mjx_safety.viz import plots
from mjx_safety.viz.plots import Curve, Outcome


@pytest.fixture
def figures(monkeypatch):
    """The figures that a test draws, in place of files."""
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *_, **__: drawn.append(self))
    return drawn


def rows(count, cost=30.0):
    """Rows of a training."""
    known = {"episode_return": 20.0, "episode_cost": cost, "cost_rate": 0.03, "multiplier": 0.5}
    return [{"env_steps": 1000.0 * number, **known} for number in range(1, count + 1)]


def has_dot(panel):
    """Return whether a line without length has a marker."""
    return any(line.get_marker() == "o" and not np.ptp(line.get_xdata()) for line in panel.lines)


def test_a_single_row_is_a_dot(figures, tmp_path):
    plots.plot_learning_curve(rows(1), np.inf, tmp_path / "curve.png")
    plots.plot_curves([Curve("ppo-lag", np.inf, rows(1))], tmp_path / "curves.png")
    plots.plot_curves([Curve("ppo-lag", np.inf, rows(1, cost)) for cost in (10.0, 20.0)], tmp_path / "seeds.png")
    panels = [panel for figure in figures for panel in figure.axes]
    assert len(panels) == 10
    assert all(map(has_dot, panels))


def test_a_curve_of_several_rows_has_no_dots(figures, tmp_path):
    plots.plot_curves([Curve("ppo-lag", np.inf, rows(9))], tmp_path / "curves.png")
    assert {line.get_marker() for panel in figures[0].axes for line in panel.lines} <= {"", "None"}


RATES = (1e-4, 3e-4, 1e-3)
LONG = [f"ppo-lag, cost limit {limit}, learning rate {rate}" for limit in range(5, 95, 15) for rate in RATES]


@pytest.mark.parametrize("labels", [["ppo"], LONG, [f"cpo, {'one of many settings, ' * 9}", "ppo"]])
def test_a_legend_is_whole_and_covers_nothing(labels, figures, tmp_path):
    plots.plot_curves([Curve(label, 25.0, rows(3)) for label in labels], tmp_path / "curves.png")
    plots.plot_pareto([Outcome(label, 25.0, 20.0, 30.0) for label in labels], tmp_path / "pareto.png")
    plots.plot_episodes({label: np.ones((2, 2)) for label in labels[:10]}, [25.0], tmp_path / "episodes.png")
    for figure in figures:
        FigureCanvasAgg(figure).draw()
        (legend,) = figure.legends
        box, page = legend.get_window_extent(), figure.bbox
        assert box.x0 >= page.x0 and box.x1 <= page.x1 and box.y0 >= page.y0
        assert len(legend.get_texts()) == min(len(labels), 10 if figure is figures[-1] else len(labels))
        assert all(panel.get_window_extent().y0 > box.y1 for panel in figure.axes)
        assert all(panel.get_window_extent().height > 150 for panel in figure.axes)


def test_costs_of_zero_lie_inside(figures, tmp_path):
    plots.plot_curves([Curve("ppo-lag", 25.0, rows(3, cost=0.0))], tmp_path / "curves.png")
    plots.plot_pareto([Outcome("ppo-lag", 25.0, 20.0, 0.0)], tmp_path / "pareto.png")
    curves, points = figures[0].axes[1], figures[1].axes[0]
    for low, high in (curves.get_ylim(), points.get_xlim()):
        assert low < 0.0 < 25.0 < high
        assert low > -0.05 * high


@pytest.mark.parametrize("count", [1, 4, 5, 8])
def test_each_column_of_throughputs_has_its_numbers_of_worlds(count, figures, tmp_path):
    worlds = (1, 64, 4096)
    measured = [
        {"env": f"env {env}", "engine": "mjx", "mode": "step", "num_envs": num, "env_steps_per_second": 10.0 * num}
        for env in range(count)
        for num in worlds
    ]
    plots.plot_throughput(measured, tmp_path / "speed.png")
    FigureCanvasAgg(figures[0]).draw()
    panels = figures[0].axes[:count]
    for panel in panels[-4:]:
        shown = [label.get_text() for label in panel.get_xticklabels() if label.get_visible()]
        ticks = panel.xaxis.get_major_ticks()
        assert shown == ["1", "64", "4096"] and all(tick.label1.get_visible() for tick in ticks)


def test_each_of_many_labels_has_its_own_colour():
    for number in (3, 15, 45):
        colours = plots._colours(map(str, range(number)))
        assert len(set(colours.values())) == len(colours) == number


def test_a_long_title_stays_inside_the_figure():
    figure = plots._figure(5, 4)
    plots._title(figure, "a title " * 40)
    box = figure._suptitle.get_window_extent(FigureCanvasAgg(figure).get_renderer())
    assert 0 <= box.x0 and box.x1 <= figure.bbox.x1

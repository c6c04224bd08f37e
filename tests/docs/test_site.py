"""The site builds without a warning, is up to date, and needs nothing from the net."""

import re
import subprocess
import sys

import pytest

import mjx_safety
from mjx_safety import agents

from .pages import ROOT

DOCS = ROOT / "docs"
FROM_THE_NET = re.compile(r"<(?:script|img|link|iframe)\b[^>]*?\b(?:src|href)=\"?(?:https?:)?//[^\">\s]+[^>]*>")


@pytest.fixture
def generate(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    import generate

    yield generate
    for name in [path.stem for path in DOCS.glob("*.py")]:
        sys.modules.pop(name, None)


def test_the_pages_are_up_to_date(generate):
    assert generate.out_of_date() == [], "run python docs/generate.py"


def test_every_environment_has_a_picture(generate):
    assert generate.environment_pages.missing_images() == []


def test_a_missing_text_is_an_error(generate):
    pages = generate.environment_pages
    with pytest.raises(SystemExit, match="no words for the task 'Chess'"):
        pages.look_up(pages.words.TASKS, "Chess", "task")


def test_an_algorithm_without_a_page_or_a_type_is_an_error(generate, monkeypatch, tmp_path):
    tables = generate.algorithm_tables
    chess = agents.ALGORITHMS["p3o"]._replace(page="chess")
    monkeypatch.setattr(tables, "ALGORITHM_PAGES", tmp_path)
    for ask in (lambda: tables.title_of("chess"), lambda: tables.type_of("ppo-chess", chess)):
        with pytest.raises(SystemExit, match=r"^docs/algorithms/chess\.md is missing"):
            ask()
    (tmp_path / "chess.md").write_text("# Chess\n")
    with pytest.raises(SystemExit, match=r"chess\.md lacks the type of ppo-chess: add a line <!-- type: \.\.\. -->"):
        tables.type_of("ppo-chess", chess)
    (tmp_path / "chess.md").write_text("# Chess\n\n<!-- type: board game -->\n")
    assert tables.type_of("ppo-chess", chess) == "board game"


def test_an_unknown_table_is_an_error(generate):
    with pytest.raises(SystemExit, match="<!-- generated: chess -->: there is no such table; known: settings"):
        generate.fill("<!-- generated: chess -->\n<!-- end -->")


def test_comments_of_fields_are_found(generate):
    from comments import field_comments

    from mjx_safety.agents import PPOConfig, TrainConfig
    from mjx_safety.runs.training_options import RunFlags

    assert field_comments(PPOConfig)["clip_eps"] == "Half width of the trusted range of density ratios."
    assert field_comments(PPOConfig)["init_log_std"].startswith("Logarithm of")  # inherited
    assert field_comments(TrainConfig)["use_completed_episodes"].startswith("Apply the limit to")  # above the field
    assert field_comments(RunFlags)["seed"] == "Seed of all random numbers."  # below it


def test_the_reference_asks_only_for_what_there_is(generate):
    with pytest.raises(SystemExit, match=r"the reference asks for mjx_safety\.chess, which is not in the package"):
        generate.plain_pages.reference_pages.fill("# Games\n\n::: mjx_safety.chess\n")


def test_the_reference_is_plain_markdown(generate):
    text = generate.plain_pages.reference_pages.fill(
        "# A\n\n## B\n\n::: mjx_safety.world.placement.table.AbstractPlaced\n"
    )
    assert text.startswith(
        "# A\n\n## B\n\n### `AbstractPlaced` { #mjx_safety.world.placement.table.AbstractPlaced }\n\n```python\n"
    )
    assert "| <code>num</code> | <code>int</code> | Number of objects. | <code>1</code> |\n" in text


def test_the_site_builds(generate, tmp_path):
    for package in ("zensical", "nbconvert"):
        pytest.importorskip(package)
    generate.plain_pages.write(tmp_path / "docs")
    config = (ROOT / "mkdocs.yml").read_text().replace("build/docs", "docs").replace("build/site", "site")
    (tmp_path / "mkdocs.yml").write_text(config)
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    site = tmp_path / "site"
    pages = {path.relative_to(site).as_posix(): path.read_text() for path in site.rglob("*.html")}
    for name in ("index", "environments/doggo_push", "algorithms/cpo", "notebooks/01_tour", "reference/config"):
        assert f"{name}.html" in pages
    assert "<math" in pages["algorithms/cpo.html"] and "Radius, in m" in pages["reference/config.html"]
    reference = "".join(page for name, page in pages.items() if name.startswith("reference/"))
    missing = [name for name in (*mjx_safety.__all__, *agents.__all__) if not re.search(rf"\b{name}\b", reference)]
    assert not missing, f"docs/reference lacks {missing}"
    for name, page in pages.items():
        needed = [tag for tag in FROM_THE_NET.findall(page) if 'rel="canonical"' not in tag]
        assert not needed, f"{name} needs {needed[0]}"

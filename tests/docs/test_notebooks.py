"""The notebooks are small and were run from top to bottom; run again they end without an error."""

import ast
import json
import os
import warnings

import pytest

from mjx_safety.viz.opengl import NoOpenGLError, choose_backend

from .pages import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MAX_BYTES = 500_000
IDS = [path.stem for path in NOTEBOOKS]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=IDS)
def test_it_is_small_and_whole(path):
    notebook = json.loads(path.read_text())
    assert path.stat().st_size <= MAX_BYTES
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        ast.parse("".join(line for line in cell["source"] if not line.startswith("%")))
        assert not [
            output
            for output in cell["outputs"]
            if output["output_type"] in ("error", "stream") and output.get("name") != "stdout"
        ]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=IDS)
def test_a_notebook_runs_without_an_error(path, tmp_path, monkeypatch):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    if "write(recording" in path.read_text():
        try:
            choose_backend()
        except NoOpenGLError as error:
            pytest.skip(str(error))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv(
        "JAX_COMPILATION_CACHE_DIR", os.environ.get("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".jax_cache"))
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        notebook = nbformat.read(path, as_version=4)
        folder = {"metadata": {"path": str(tmp_path)}}
        nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources=folder).execute()

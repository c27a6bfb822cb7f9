"""The notebook of the documents runs from its first cell to its last, and ends as it says."""

from __future__ import annotations

from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

NOTEBOOK = Path(__file__).parent.parent / "docs" / "notebook.ipynb"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_notebook_runs_and_both_sites_end_with_one_model() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=400, kernel_name="python3").execute()
    assert "{'a1': 2.0, 'a2': 2.0}" in str(notebook.cells[-1].outputs)

"""A site that is alive and cannot take the last model ends the run with code 6, and is named."""

from __future__ import annotations

from typing import Any

import pytest

METHOD = """
from dataclasses import replace

from fednet.errors import MethodError
from fednet.methods.regression.method import METHOD as REGRESSION


def site(config, context, overrides):
    from fednet.methods.regression.site import RegressionSite

    class Full(RegressionSite):
        def adopt(self, model, number, state):
            if context.name == "a2" and number == config.rounds:
                raise MethodError("there is no room for it here")
            super().adopt(model, number, state)

    return Full(config, context)


METHOD = replace(REGRESSION, name="full", site=site)
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_site_that_does_not_hold_the_model_is_named(terminal: Any) -> None:
    (terminal.folder / "models_differ").mkdir()
    (terminal.folder / "models_differ" / "method.py").write_text(METHOD)
    settings = "name: full\nmethod: models_differ.method\nnodes: 3\nrounds: 2\ndevices: {threads: 1}\n"
    (terminal.folder / "full.yaml").write_text(settings)
    launched = terminal.run("launch", "full.yaml")
    assert launched.code == 6, launched.out + launched.err
    assert "not every site holds their last model: a2 (line)" in launched.err
    log = (terminal.folder / "runs" / "full" / "logs" / "a2.log").read_text()
    assert "the outcome of round 2 of line could not be adopted: there is no room for it here" in log
    launched.leaves_nobody()

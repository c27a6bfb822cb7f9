"""Opacus leaves the root logger as it was."""

from __future__ import annotations

import subprocess
import sys


def test_importing_adds_no_handler_to_the_root_logger() -> None:
    code = "import logging, fednet.privacy.dp_sgd, fednet.privacy.accounting; assert not logging.getLogger().handlers"
    subprocess.run([sys.executable, "-c", code], check=True)

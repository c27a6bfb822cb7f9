"""Imported first by the fork server: the launcher's temporary folder goes with the server, however the launcher ends.

`multiprocessing` removes the folder when the launcher ends by itself. The server outlives a launcher that is killed,
and its nodes, by a moment. Knows the folder by the environment.
"""

from __future__ import annotations

import atexit
import os
import shutil

TEMPORARY = "FEDNET_TEMPORARY"
"""The variable that names the folder."""

if TEMPORARY in os.environ:
    atexit.register(shutil.rmtree, os.environ[TEMPORARY], ignore_errors=True)

"""Imported first by the fork server: the launcher's temporary folder goes with the server, however the launcher ends.

`multiprocessing` removes the folder when the launcher ends by itself. The server outlives a launcher that is killed,
and its nodes, by a moment. Knows the folder by the environment. What torch compiles is kept there, too, unless
`TORCHINDUCTOR_CACHE_DIR` says where: importing diffusers is enough for torch to make a folder for it.
"""

from __future__ import annotations

import atexit
import os
import shutil
from pathlib import Path

TEMPORARY = "FEDNET_TEMPORARY"
"""The variable that names the folder."""

if TEMPORARY in os.environ:
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path(os.environ[TEMPORARY], "torchinductor")))
    atexit.register(shutil.rmtree, os.environ[TEMPORARY], ignore_errors=True)

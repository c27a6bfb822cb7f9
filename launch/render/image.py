"""The build context of the image in which rendered nodes run: this very fednet, and the versions of what it needs here.

The context is a folder of its own, so that no key and no data can get into the image: a Dockerfile, a wheel that is
packed from the installed packages (wheels are specified in PEP 427 and PEP 491), the versions of their requirements,
and the modules of a method, data set or rule that the configuration names by their path. Knows no engine.
"""

from __future__ import annotations

import base64
import hashlib
import platform
import shutil
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from fednet.methods import registry
from launch.config.modules import named_modules, plugin_names
from launch.config.schema import LoadedConfig
from launch.errors import ConfigError, ConfigProblem
from launch.render.deployment import MARK, RUNS, write_files

CONTEXT: Final = "image"
MODULES: Final = "modules"
USER: Final = 10001
"""Number of the user and the group in the image, without a name on any machine."""
PACKAGES: Final = ("fednet", "launch", "nodes", "protocol")

_GROUPS = ("fednet.methods", "fednet.data", "fednet.rules")
_TIME = (1980, 1, 1, 0, 0, 0)
"""The time of every file of the wheel, the earliest that zip files can hold: the same files make the same wheel."""
_WHEEL = "Wheel-Version: 1.0\nGenerator: fednet render\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
_SKIPPED = frozenset({"__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache"})


def write_context(loaded: LoadedConfig, folder: Path) -> None:
    """Writes the build context into `folder/image`, anew.

    Raises:
        ConfigError: fednet is not installed, only its files are there; or a module cannot be found; or it cannot be
            written.
    """
    own, context = _own_distribution(), folder / CONTEXT
    modules = list(_modules(loaded))
    shutil.rmtree(context, ignore_errors=True)
    files = {MARK: dockerfile(loaded, wheel_name(own)), f"{CONTEXT}/constraints.txt": constraints()}
    write_files(folder, files)
    write_wheel(own, context / wheel_name(own))
    for source in modules:
        _copy(source, context / MODULES)


def dockerfile(loaded: LoadedConfig, wheel: str) -> str:
    """The Dockerfile of the image; needs BuildKit (Docker 23 and later) or Podman 4."""
    extra = registry.find(loaded.cluster.method).extra.partition("[")[2].rstrip("]")
    own = f"/context/{wheel}[{extra}]" if extra else f"/context/{wheel}"
    install = " ".join(f"'{each}'" for each in (own, *_plugins(loaded)))
    version = ".".join(platform.python_version_tuple()[:2])
    modules = f"COPY {MODULES} /opt/modules\nENV PYTHONPATH=/opt/modules\n" * bool(
        named_modules(loaded.document.values)
    )
    return f"""\
# Written by `fednet render`: the very fednet that has written it, and the versions of what it needs that it had.
FROM python:{version}-slim-bookworm
RUN --mount=type=bind,target=/context \\
    pip install --no-cache-dir --disable-pip-version-check --constraint /context/constraints.txt {install}
{modules}ENV HOME=/tmp LOGNAME=fednet PYTHONUNBUFFERED=1 TORCHINDUCTOR_CACHE_DIR=/tmp/torchinductor
RUN install -d -m 0770 -o {USER} -g {USER} {RUNS}
USER {USER}:{USER}
CMD ["fednet", "--help"]
"""


def constraints() -> str:
    """What is installed here, as constraints of pip, without the part of a version that only this build has."""
    installed = {each.metadata["Name"]: each.version.partition("+")[0] for each in distributions()}
    lines = [f"{name}=={version}\n" for name, version in installed.items() if name and name != "fednet"]
    return "".join(sorted(lines, key=str.lower))


def wheel_name(own: Distribution) -> str:
    """The name of the wheel's file."""
    return f"fednet-{own.version}-py3-none-any.whl"


def write_wheel(own: Distribution, path: Path) -> None:
    """Packs the packages from which this process runs, with the metadata of the installed distribution."""
    info = f"fednet-{own.version}.dist-info"
    texts = {"METADATA": own.read_text("METADATA"), "entry_points.txt": own.read_text("entry_points.txt")}
    files = dict(_package_files())
    files |= {f"{info}/{name}": text.encode() for name, text in {**texts, "WHEEL": _WHEEL}.items() if text}
    record = "".join(f"{name},sha256={_digest(content)},{len(content)}\n" for name, content in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, content in files.items():
            wheel.writestr(zipfile.ZipInfo(name, _TIME), content, zipfile.ZIP_DEFLATED)


def _own_distribution() -> Distribution:
    own = next((each for each in distributions(name="fednet") if each.read_text("METADATA")), None)
    if own is None:
        hint = "Install it, or its checkout with `pip install -e .`."
        raise ConfigError(ConfigProblem("fednet", "an installed distribution to put into the image", hint=hint))
    return own


def _package_files() -> Iterator[tuple[str, bytes]]:
    for package in PACKAGES:
        folder = _source(package)
        for path in sorted(folder.rglob("*")):
            relative = Path(package) / path.relative_to(folder)
            if path.is_file() and not _SKIPPED & set(relative.parts):
                yield relative.as_posix(), path.read_bytes()


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def _plugins(loaded: LoadedConfig) -> Iterator[str]:
    """What pip has to install beside fednet: the distributions that have registered the method, data sets and rules."""
    names, found = plugin_names(loaded.document.values), set()
    for point in (point for group in _GROUPS for point in entry_points(group=group) if point.name in names):
        if point.dist is not None and point.dist.name != "fednet":
            found.add(f"{point.dist.name}=={point.dist.version}")
    yield from sorted(found)


def _modules(loaded: LoadedConfig) -> Iterator[Path]:
    """The sources of the modules that the configuration names by their path, as files or packages."""
    named = named_modules(loaded.document.values)
    for top in dict.fromkeys(name.partition(".")[0] for name in named):
        yield _source(top)


def _source(module: str) -> Path:
    """The folder of a package, or the file of a module.

    Raises:
        ConfigError: it has no file of its own.
    """
    spec = find_spec(module)
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        raise ConfigError(ConfigProblem(module, "a module or a package with files, which an image can hold"))
    return Path(spec.origin).parent if spec.submodule_search_locations else Path(spec.origin)


def _copy(source: Path, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, folder / source.name, ignore=shutil.ignore_patterns(*_SKIPPED))
    else:
        shutil.copy(source, folder / source.name)

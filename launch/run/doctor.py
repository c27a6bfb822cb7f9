"""Checks before a run what a configuration needs: keys, data, devices, disk, and the other machines.

Every finding is one line. What the operator of this machine must fix is a `ConfigError`, what another operator must fix
a `RunError` of the peers' family. Nothing is changed: running peers are only listened to (`nodes.transport.probe`).
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.text import Text

from launch.config.schema import DRIVER, MONITOR, LoadedConfig, NodeEntry
from launch.errors import EXIT_PEER_ERROR, ConfigError, ConfigProblem, RunError
from launch.output import print_json
from launch.run import keys
from launch.run.devices import is_host_here, is_port_free, read_inventory
from launch.run.folder import incarnation_file
from launch.run.local_data import DataUse, check_data, data_config, data_problem, data_uses, nodes_here, tcp_endpoint
from launch.run.plan import make_plan, single_node_spec, specs_here
from launch.run.session import check_ports_free, versions
from nodes.errors import NodeError
from nodes.incarnation import seconds_behind, set_back_remark
from nodes.key_folder import PRIVATE
from nodes.spec import Role
from nodes.transport.connections import allowed_descriptors, connection_limit
from nodes.transport.probe import probe
from protocol.clocks import MAX_CLOCK_SKEW, clock_remark
from protocol.header import VERSION
from protocol.security.keys import Keyring

FindingState = Literal["fine", "open", "wrong"]

MIN_FREE_BYTES = 1 << 30
"""Bytes that should be free where the run's folder will lie: states, samples and logs of the examples take less."""

_MARKS: dict[FindingState, tuple[str, str]] = {"fine": ("✓", "green"), "open": ("–", "yellow"), "wrong": ("✗", "red")}


@dataclass(frozen=True)
class DoctorFinding:
    """One thing that was looked at.

    Attributes:
        what: what it is about.
        state: `open` is what is not known yet, such as whether a peer that is not up can be reached.
        detail: what was found.
        problem: what this machine's operator must mend, if that is who must.
    """

    what: str
    state: FindingState
    detail: str
    problem: ConfigProblem | None = None


def run_doctor(
    loaded: LoadedConfig,
    out: Path,
    console: Console,
    *,
    key: Path | None = None,
    insecure: bool = False,
    as_json: bool = False,
) -> None:
    """Looks at everything, and prints what it finds; as JSON in the end, or line by line.

    Args:
        loaded: the configuration.
        out: where the runs' folders lie.
        console: where to.
        key: the private file of the node here, for the other machines; without, all nodes start here.
        insecure: allow addresses beyond loopback without keys.
        as_json: print for programs, on standard output.

    Raises:
        ConfigError: something is wrong here.
        RunError: something is wrong elsewhere.
    """
    findings = []
    for finding in _findings(loaded, out, key, insecure=insecure):
        findings.append(finding)
        if not as_json:
            mark, style = _MARKS[finding.state]
            console.print(Text.assemble((mark, style), " ", (finding.what, "bold"), "  "), end="")
            console.print(finding.detail, markup=False, highlight=False, soft_wrap=True)
    if as_json:
        print_json([{"what": each.what, "state": each.state, "detail": each.detail} for each in findings])
    wrong = [finding for finding in findings if finding.state == "wrong"]
    if problems := [finding.problem for finding in wrong if finding.problem is not None]:
        raise ConfigError(*dict.fromkeys(problems))
    if wrong:
        raise RunError("\n".join(f"{finding.what}: {finding.detail}" for finding in wrong), EXIT_PEER_ERROR)


def _findings(loaded: LoadedConfig, out: Path, key: Path | None, *, insecure: bool) -> Iterator[DoctorFinding]:
    """Everything that is looked at, one after the other."""
    installed = ", ".join(f"{name} {version}" for name, version in versions().items())
    yield DoctorFinding("versions", "fine", f"wire {VERSION}, {installed}")
    if key is not None:
        names = yield from _node_findings(loaded, out, key)
    else:
        names = nodes_here(loaded)
        yield from _cluster_findings(loaded, names, out, insecure=insecure)
    for use in data_uses(loaded, names):
        yield from _data_findings(loaded, use)
    yield from _clock_findings(out / loaded.cluster.slug, names)
    yield _descriptors(len(loaded.cluster.entries))
    yield _disk(out)


def _clock_findings(folder: Path, names: Sequence[str]) -> Iterator[DoctorFinding]:
    """Whether the clock has gone back since the last start of a node here."""
    for name in names:
        file = incarnation_file(folder, name)
        try:
            behind = seconds_behind(file, time.time_ns())
        except NodeError as error:
            problem = ConfigProblem(str(file), hint=f"{error}.")
            yield DoctorFinding("clock", "wrong", str(problem), problem)
        else:
            if behind > 0:
                yield DoctorFinding("clock", "open", set_back_remark(name, behind))


def _node_findings(loaded: LoadedConfig, out: Path, key: Path) -> Generator[DoctorFinding, None, tuple[str, ...]]:
    """One of several machines: its own keys and devices, and whether the others can be heard; returns its own name."""
    try:
        ring = keys.load_keyring(key)
    except ConfigError as error:
        yield from (DoctorFinding("keys", "wrong", str(problem), problem) for problem in error.problems)
        return ()
    own, entries = ring.own.name, loaded.cluster.entries
    yield DoctorFinding("keys", "fine", f"this is {own}, {ring.own.public.fingerprint}")
    yield from _trust_findings(loaded, ring)
    role: Role = "client" if own in entries else "guest"
    listen = entries.get(own, NodeEntry()).listen or "tcp://127.0.0.1:0"
    yield from _attempt(
        "devices",
        "enough",
        lambda: single_node_spec(loaded, own, role, read_inventory(), out, listen=listen, join=(), keys=ring),
    )
    yield from _own_ports(own, listen)
    for name, entry in entries.items():
        if name != own and name in ring.trusted:
            yield from _peer(name, entry, loaded.cluster.slug, ring)
    return (own if own in entries else DRIVER,)


def _own_ports(name: str, listen: str) -> Iterator[DoctorFinding]:
    """Whether this node can bind its address; it may be up already."""
    host, port = tcp_endpoint(listen) or ("", 0)
    if not port:
        return
    if all(is_port_free(host, number) for number in (port, port + 1)):
        yield DoctorFinding("ports", "fine", f"{port} and {port + 1} are free")
    elif is_host_here(host):
        yield DoctorFinding("ports", "open", f"{port} or {port + 1} is in use: by {name} itself, if it is up")
    else:
        yield DoctorFinding(
            "ports", "open", f"{host} is no address of this machine: start {name} with another --listen"
        )


def _cluster_findings(
    loaded: LoadedConfig, here: Sequence[str], out: Path, *, insecure: bool
) -> Iterator[DoctorFinding]:
    """The nodes of this machine: a launch makes the keys that are missing, and needs free ports."""
    folder = loaded.cluster.security.keys
    names = [*here, *([MONITOR] if DRIVER in here else [])]
    there = [name for name in names if folder and (folder / f"{name}{PRIVATE}").exists()]
    for name in there:
        yield from _attempt(f"key of {name}", "usable", partial(_require_fingerprint, loaded, name))
    if folder is None:
        yield DoctorFinding("keys", "fine", "none configured: addresses beyond loopback need --insecure")
    elif missing := [name for name in names if name not in there]:
        yield DoctorFinding("keys", "open", f"the launch will make those of {', '.join(missing)}")
    for name, entry in loaded.cluster.entries.items():
        if name not in here:
            about = f"on another machine ({entry.listen}), where `fednet doctor --key` looks at it"
            yield DoctorFinding(name, "open", about)

    def look() -> None:
        if DRIVER not in here:
            specs_here(loaded, here, read_inventory(), insecure=insecure)
            return
        planned = make_plan(loaded, read_inventory(), out, Path("sockets"), insecure=insecure)
        check_ports_free(loaded, planned, here)

    yield from _attempt("devices, ports", "enough, free", look)


def _data_findings(loaded: LoadedConfig, use: DataUse) -> Iterator[DoctorFinding]:
    """Whether a data set is there, and every file of it can be read."""
    what = f"data of {', '.join(use.owners)}"
    found: list[str] = []

    def look() -> None:
        check_data(loaded, use.owners)
        if (data := data_config(loaded, use)) is None:
            return
        from fednet.data.survey import survey  # noqa: PLC0415 - a second that other methods need not wait for
        from launch.report.data_survey import outline, refused  # noqa: PLC0415

        there = survey(data)
        if reason := refused(data, there):
            raise ConfigError(data_problem(loaded, use, reason))
        found.append(outline(data, there))

    for finding in _attempt(what, "there", look):
        yield replace(finding, detail=found[0]) if found else finding


def _require_fingerprint(loaded: LoadedConfig, name: str) -> None:
    assert loaded.cluster.security.keys is not None  # noqa: S101 - its key was found there
    keys.require_agreement(keys.node_keyring(name, loaded.cluster.security.keys), loaded.cluster.fingerprints)


def _trust_findings(loaded: LoadedConfig, ring: Keyring) -> Iterator[DoctorFinding]:
    """Whether the keys of all clients are trusted, and are those that the configuration names."""
    there = {public.name: public for public in keys.trusted_keys(ring.file.parent)} if ring.file else {}
    for name in loaded.cluster.entries:
        public = ring.trusted.get(name)
        if public is None or public.role != "client":
            given = keys.describe(there[name]) if name in there else "none"
            hint = f"Get {name}.pub from the operator of {name}, and `fednet keys trust` it."
            problem = ConfigProblem("trusted", f"the public keys of {name}, as a client, today", given, hint=hint)
            yield DoctorFinding(f"key of {name}", "wrong", str(problem), problem)
    try:
        keys.require_agreement(ring, loaded.cluster.fingerprints)
    except ConfigError as error:
        yield from (DoctorFinding("fingerprints", "wrong", str(problem), problem) for problem in error.problems)
    else:
        yield DoctorFinding("fingerprints", "fine", f"{len(loaded.cluster.fingerprints)} named in the configuration")


def _peer(name: str, entry: NodeEntry, run: str, ring: Keyring) -> Iterator[DoctorFinding]:
    """Whether a peer can be heard at the address that the configuration names."""
    if entry.listen is None or entry.listen.startswith(("tcp://*", "tcp://0.0.0.0", "tcp://[::]")):
        yield DoctorFinding(name, "open", "the configuration names no address at which it could be looked for")
        return
    answer = probe(name, entry.listen, run, ring)
    state: FindingState = {"heard": "fine", "not up": "open"}.get(answer.state, "wrong")  # type: ignore[assignment]
    yield DoctorFinding(name, state, answer.about)
    if answer.state == "heard" and abs(answer.ahead) > MAX_CLOCK_SKEW:
        yield DoctorFinding(f"clock of {name}", "wrong", clock_remark(answer.ahead))


def _attempt(what: str, fine: str, look: Callable[[], object]) -> Iterator[DoctorFinding]:
    """What a look finds that raises the operator's errors."""
    try:
        look()
    except ConfigError as error:
        yield from (DoctorFinding(what, "wrong", str(problem), problem) for problem in error.problems)
    else:
        yield DoctorFinding(what, "fine", fine)


def _descriptors(clients: int) -> DoctorFinding:
    """Whether a node may have enough files and connections: two that it makes and two that it accepts for each peer."""
    limit = allowed_descriptors()
    needed, room = 4 * (clients + 2), connection_limit(limit)
    if room >= needed:
        return DoctorFinding("descriptors", "fine", f"{limit} a process, {room} of them for connections")
    least = next(number for number in count(needed) if connection_limit(number) >= needed)
    hint = "Raise the hard limit (`ulimit -Hn`, /etc/security/limits.conf, LimitNOFILE= of systemd)."
    problem = ConfigProblem("descriptors", f"at least {least} a process for {clients} clients", str(limit), hint=hint)
    return DoctorFinding("descriptors", "wrong", str(problem), problem)


def _disk(out: Path) -> DoctorFinding:
    """Whether the runs' folder can be written and has room."""
    nearest = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    free = shutil.disk_usage(nearest).free
    if not os.access(nearest, os.W_OK):
        problem = ConfigProblem(f"--out {out}", "a folder that can be written")
    elif free < MIN_FREE_BYTES:
        problem = ConfigProblem(f"--out {out}", f"{MIN_FREE_BYTES / 1e9:.1f} GB of free disk", f"{free / 1e9:.1f} GB")
    else:
        return DoctorFinding("disk", "fine", f"{free / 1e9:.0f} GB free")
    return DoctorFinding("disk", "wrong", str(problem), problem)

"""The plan: pure, so every machine can be imagined."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from launch.config.schema import load_config
from launch.errors import ConfigError
from launch.run.devices import DeviceInventory
from launch.run.keys import ensure_keyrings
from launch.run.plan import NODE_BYTES, make_plan, require_capacity, single_node_spec, specs_here

FOLDER = Path("runs/x")


def planned(
    *overrides: Any,
    cuda: Any = 0,
    cores: Any = 8,
    sockets: Any = Path("/sockets"),
    keys: Any = None,
    insecure: Any = False,
    nodes: Any = 5,
) -> Any:
    loaded = load_config("score-inference", [f"nodes={nodes}", *overrides])
    return make_plan(loaded, DeviceInventory(cuda, cores), FOLDER, sockets, keys=keys, insecure=insecure)


def test_clients_a_guest_and_a_monitor() -> None:
    made = planned(nodes=3)
    assert [(spec.name, spec.role) for spec in made.nodes] == [
        ("a1", "client"),
        ("a2", "client"),
        ("a3", "client"),
        ("driver", "guest"),
    ]
    assert (made.monitor.name, made.monitor.role) == ("monitor", "monitor")
    assert {spec.expected for spec in made.nodes} == {("a1", "a2", "a3")}
    assert [(spec.index, spec.count) for spec in made.clients] == [(0, 3), (1, 3), (2, 3)]


def test_every_node_is_told_both_policies() -> None:
    made = planned("bus.policy.hard_limit=7", "bus.rounds.hard_limit=8", nodes=2)
    assert {(spec.policy.hard_limit, spec.rounds.hard_limit) for spec in made.nodes} == {(7.0, 8.0)}


def test_every_node_picks_a_free_port_and_whom_it_joins_through_is_not_planned() -> None:
    made = planned()
    assert {spec.listen for spec in (*made.nodes, made.monitor)} == {"tcp://127.0.0.1:0"}
    assert {spec.join for spec in (*made.nodes, made.monitor)} == {()}


def test_a_free_port_of_an_interface_is_an_address_that_many_may_have() -> None:
    listen = "tcp://127.0.0.1:0"
    made = planned(nodes=f"{{a: {{listen: '{listen}'}}, b: {{listen: '{listen}'}}}}")
    assert {spec.listen for spec in made.clients} == {listen}


def test_cuda_devices_are_dealt_round_robin() -> None:
    assert [spec.device for spec in planned(cuda=2).clients] == ["cuda:0", "cuda:1", "cuda:0", "cuda:1", "cuda:0"]


def test_a_node_with_a_device_of_its_own_takes_no_turn() -> None:
    made = planned(nodes="{a: {device: cpu}, b: {}, c: {device: 'cuda:1'}, d: {}}", cuda=2)
    assert [spec.device for spec in made.clients] == ["cpu", "cuda:0", "cuda:1", "cuda:1"]


@pytest.mark.parametrize(("cores", "nodes", "threads"), [(8, 5, 1), (16, 5, 3), (2, 5, 1), (4, 1, 4)])
def test_cores_are_divided(cores: Any, nodes: Any, threads: Any) -> None:
    made = planned(cores=cores, nodes=nodes)
    assert {spec.threads for spec in made.clients} == {threads}
    assert {spec.device for spec in made.clients} == {"cpu"}


def test_threads_can_be_said() -> None:
    assert {spec.threads for spec in planned("devices.threads=3").clients} == {3}


@pytest.mark.parametrize(
    ("overrides", "key"),
    [(["devices.device=cuda:3"], "devices.device"), (["nodes={a: {device: gpu}}"], "nodes.a.device")],
)
def test_a_device_that_does_not_exist_is_refused_once_with_those_that_do(overrides: Any, key: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        planned(*overrides, cuda=2)
    (problem,) = caught.value.problems
    assert problem.key == key
    assert "cpu, cuda:0, cuda:1" in problem.expected


def test_cuda_without_any_is_refused() -> None:
    with pytest.raises(ConfigError, match="'cuda'"):
        planned("devices.device=cuda")


@pytest.mark.parametrize("listen", ["tcp://0.0.0.0:5000", "tcp://192.168.1.4:5000", "tcp://*:5000"])
def test_a_bind_beyond_loopback_must_be_said_aloud(listen: Any) -> None:
    nodes = f"{{a: {{listen: '{listen}'}}}}"
    with pytest.raises(ConfigError, match="--insecure") as caught:
        planned(nodes=nodes)
    assert caught.value.problems[0].key == "nodes.a.listen"
    assert planned(nodes=nodes, insecure=True).clients[0].listen == listen


@pytest.mark.parametrize("listen", ["tcp://127.0.0.1:5000", "tcp://127.8.0.1:5000", "tcp://[::1]:5000", "ipc:///tmp/x"])
def test_loopback_needs_no_word(listen: Any) -> None:
    assert planned(nodes=f"{{a: {{listen: '{listen}'}}}}").clients[0].listen == listen


@pytest.mark.parametrize("listen", ["tcp://127.0.0.1:65535", "tcp://127.0.0.1:99999"])
def test_a_port_that_cannot_be_bound_or_told_is_refused(listen: Any) -> None:
    with pytest.raises(ConfigError, match=r"nodes\.a\.listen: expected .* port"):
        planned(nodes=f"{{a: {{listen: '{listen}'}}}}")


@pytest.mark.parametrize(("port", "taken"), [(5000, 5000), (5001, 5001), (4999, 5000)])
@pytest.mark.parametrize("host", ["127.0.0.1", "203.0.113.7"])
def test_an_address_is_used_once_and_so_is_the_port_beside_it(port: int, taken: int, host: str) -> None:
    nodes = f"{{a: {{listen: 'tcp://{host}:5000'}}, b: {{listen: 'tcp://{host}:{port}'}}, c: {{}}}}"
    with pytest.raises(ConfigError, match=rf"b\.listen: .* of its own, .* got tcp://{host}:{taken}, which a takes"):
        specs_here(load_config("score-inference", [f"nodes={nodes}"]), ("c",), DeviceInventory(0, 8), insecure=True)
    with pytest.raises(ConfigError, match="an address of its own"):
        planned(nodes=nodes, insecure=True)


def test_ipc_sockets_lie_in_the_given_folder() -> None:
    made = planned("bus.transport=ipc", sockets=Path("/sockets"))
    assert made.clients[0].listen == "ipc:///sockets/a1"


def test_a_socket_path_that_is_too_long_is_refused() -> None:
    with pytest.raises(ConfigError, match="at most 100 bytes"):
        planned("bus.transport=ipc", sockets=Path("/sockets") / ("x" * 120))


def test_ports_from_a_base() -> None:
    made = planned("bus.base_port=6000", nodes=2)
    assert [spec.listen.rpartition(":")[2] for spec in (*made.nodes, made.monitor)] == ["6000", "6002", "6004", "6006"]


def test_the_highest_base_has_room_for_the_largest_cluster() -> None:
    made = planned("bus.base_port=65000", nodes=200)
    assert max(int(spec.listen.rpartition(":")[2]) for spec in (*made.nodes, made.monitor)) + 1 < 2**16


def test_what_a_site_says_of_its_data_reaches_it_alone() -> None:
    made = planned(nodes="{a: {data: {limit: 9}}, b: {}}")
    assert [dict(spec.site) for spec in made.nodes] == [{"data": {"limit": 9}}, {}, {}]


def by_hand(name: Any = "a2", role: Any = "client", **options: Any) -> Any:
    options = {"listen": "tcp://127.0.0.1:0", "join": ("tcp://127.0.0.1:7000",)} | options
    return single_node_spec(load_config("score-inference"), name, role, DeviceInventory(0, 4), FOLDER, **options)


def test_a_node_by_hand_knows_its_place_among_the_others() -> None:
    spec = by_hand()
    assert (spec.index, spec.count, spec.expected) == (1, 5, ("a1", "a2", "a3", "a4", "a5"))
    assert spec.join == ("tcp://127.0.0.1:7000",)


def test_a_node_by_hand_takes_all_cores_unless_the_others_are_on_this_machine() -> None:
    assert by_hand(listen="tcp://10.0.0.1:7000", insecure=True).threads == 4
    assert by_hand(listen="tcp://127.0.0.1:0").threads == 1


def test_a_client_by_hand_must_be_one_of_the_configuration() -> None:
    with pytest.raises(ConfigError, match="a1, a2, a3, a4, a5"):
        by_hand("a9")
    assert by_hand("visitor", "guest").name == "visitor"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"device": "cuda:0"}, "--device"),
        ({"listen": "tcp://0.0.0.0:1"}, "--insecure"),
        ({"listen": "bla"}, "tcp://host"),
    ],
)
def test_a_node_by_hand_is_checked_as_well(options: Any, said: Any) -> None:
    with pytest.raises(ConfigError, match=said):
        by_hand(**options)


def test_with_keys_everybody_has_its_own_and_is_called_by_name(tmp_path: Path) -> None:
    keys = ensure_keyrings({"a1": "client", "a2": "client", "driver": "guest", "monitor": "monitor"}, tmp_path)
    made = planned(f"security.keys={tmp_path}", keys=keys, nodes=2)
    for spec in (*made.nodes, made.monitor):
        assert spec.keys is keys[spec.name]


def test_with_keys_an_address_may_be_beyond_loopback(tmp_path: Path) -> None:
    wide = "nodes={a1: {listen: 'tcp://10.0.0.1:7000'}}"
    loaded = load_config("score-inference", [wide, f"security.keys={tmp_path}"])
    made = make_plan(
        loaded,
        DeviceInventory(0, 1),
        FOLDER,
        Path("/sockets"),
        keys=ensure_keyrings({"a1": "client"}, tmp_path),
    )
    assert made.clients[0].listen == "tcp://10.0.0.1:7000"
    with pytest.raises(ConfigError, match="Give it keys"):
        make_plan(load_config("score-inference", [wide]), DeviceInventory(0, 1), FOLDER, Path("/sockets"))


def test_more_clients_than_there_is_memory_for_are_refused_with_the_number() -> None:
    loaded = load_config("regression", ["nodes=40"])
    with pytest.raises(ConfigError, match=r"nodes: expected at most 10 clients, each of 176 MiB in 1\.9 GiB, got 40\."):
        require_capacity(loaded, 64, 11 * NODE_BYTES)


def test_many_clients_for_the_cores_are_said_beforehand() -> None:
    loaded = load_config("regression", ["nodes=40"])
    assert require_capacity(loaded, 2, 100 * NODE_BYTES).startswith("40 clients share 2 cores")
    assert require_capacity(loaded, 5, 100 * NODE_BYTES) == ""

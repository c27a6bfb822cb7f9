"""Visiting: what is refused before anybody is asked. How a visit goes is tested from end to end."""

from __future__ import annotations

import os

import pytest
from rich.console import Console

from launch.commands.node import EndpointOptions
from launch.commands.visit import parse_label_list, read_bounded, require_writable, run_as_guest
from launch.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "found"), [("0-9", tuple(range(10))), ("3", (3,)), ("1,3,7", (1, 3, 7)), ("0-2, 8", (0, 1, 2, 8))]
)
def test_labels_as_they_are_written(text, found):
    assert parse_label_list(text) == found


@pytest.mark.parametrize("text", ["", "a", "3-", "-3", "5-2", "1,,2", "1.5", "0-9-12", "0-99999999999", "../../etc"])
def test_labels_that_are_none(text):
    with pytest.raises(ConfigError, match="numbers and ranges"):
        parse_label_list(text)


@pytest.mark.parametrize("listen", ["tcp://0.0.0.0:0", "tcp://10.0.0.1:7000"])
def test_a_visitor_stays_on_loopback_unless_told(listen):
    with pytest.raises(ConfigError, match="--insecure"):
        run_as_guest(EndpointOptions(listen, join=("tcp://127.0.0.1:1",)), "novelty", lambda *_: None, Console())


def test_a_file_is_read_whole_up_to_a_bound(tmp_path):
    (tmp_path / "x").write_bytes(b"12345")
    assert read_bounded(tmp_path / "x", 5) == b"12345"
    with pytest.raises(ConfigError, match="at most 4 bytes"):
        read_bounded(tmp_path / "x", 4)


@pytest.mark.parametrize("name", ["absent", "", "pipe"])
def test_only_files_are_read(tmp_path, name):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="an existing file"):
        read_bounded(tmp_path / name, 5)


@pytest.mark.parametrize("name", ["", "no/such/x.png"])
def test_a_file_to_write_needs_a_folder_that_is_there(tmp_path, name):
    assert require_writable(tmp_path / "x.png", "-o") == tmp_path / "x.png"
    with pytest.raises(ConfigError, match=r"-o .*: expected a file in a folder that exists"):
        require_writable(tmp_path / name, "-o")

"""Golden frames in both directions, round trips, and which tensors are shared or copied."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from protocol import codec
from protocol.codec import Envelope, decode, encode, encode_retransmission, retransmitted_frames
from protocol.errors import EncodingError, WireError
from protocol.messages import KINDS, Goodbye, QueryAnswer, QueryRequest, Retransmission
from protocol.tensors import DTYPES

VECTORS = Path(__file__).parent.parent / "vectors"
NAMES = sorted(path.stem for path in VECTORS.glob("*.json"))
PROTOCOL = (Path(codec.__file__).parent / "PROTOCOL.md").read_text()

Identical = Callable[[object, object], bool]
Forge = Callable[..., list[bytes]]


def meaning(value: Any) -> Any:
    """What a vector's JSON stands for: tensors, bytes, and tuples for lists."""
    if isinstance(value, dict) and value.keys() == {"hex"}:
        return bytes.fromhex(value["hex"])
    if isinstance(value, dict) and value.keys() == {"dtype", "shape", "values"}:
        dtype = DTYPES[value["dtype"]]
        values = [complex(*each) for each in value["values"]] if dtype.is_complex else value["values"]
        return torch.tensor(values, dtype=dtype).view(value["shape"])
    if isinstance(value, dict):
        return {key: meaning(each) for key, each in value.items()}
    return tuple(map(meaning, value)) if isinstance(value, list) else value


def vector(name: str) -> dict[str, Any]:
    return dict(json.loads((VECTORS / f"{name}.json").read_text()))


def envelope_of(golden: dict[str, Any]) -> Envelope:
    message = KINDS[golden["kind"]].model_validate(meaning(golden["body"]))
    fields = {key: golden[key] for key in ("topic", "run", "sender", "incarnation", "number")}
    return Envelope(**fields, message=message)


def frames_of(golden: dict[str, Any]) -> list[bytes]:
    """What the encoder makes of a vector's meaning."""
    sent = envelope_of(golden)
    if "carries" not in golden:
        return [bytes(frame) for frame in encode(sent, golden["encoding"])]
    carried = frames_of(vector(golden["carries"]))
    return [
        bytes(frame) for frame in encode_retransmission(carried, sent.run, sent.sender, sent.incarnation, sent.topic)
    ]


@pytest.mark.parametrize("name", NAMES)
def test_golden_meaning_becomes_golden_frames(name: str) -> None:
    golden = vector(name)
    frames = [frame.hex() for frame in frames_of(golden)]
    if os.environ.get("FEDNET_WRITE_VECTORS"):
        (VECTORS / f"{name}.json").write_text(json.dumps(golden | {"frames": frames}, indent=1) + "\n")
        pytest.skip("the frames were written anew; look at the difference")
    assert frames == golden["frames"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("copy", [bytes, bytearray, memoryview])
def test_golden_frames_become_golden_meaning(name: str, copy: Callable[[bytes], Any], identical: Identical) -> None:
    golden = vector(name)
    arrived = decode([copy(bytes.fromhex(frame)) for frame in golden["frames"]])
    assert identical(arrived, envelope_of(golden))


def test_every_kind_has_golden_frames_and_a_place_in_the_document() -> None:
    assert {vector(name)["kind"] for name in NAMES} == KINDS.keys()
    for kind, message in KINDS.items():
        assert message.kind == kind
        row = re.search(rf"^\| `{kind}` \| (yes|no) +\|(.*)$", PROTOCOL, re.MULTILINE)
        assert row, f"{kind} is not in the document's table"
        assert (row[1] == "yes") == message.numbered
        assert set(re.findall(r"`(\w+)`", row[2])) == message.model_fields.keys()


def test_the_document_reads_the_smallest_message_byte_by_byte() -> None:
    block = re.search(r"```\nframe 1\n(.*?)```", PROTOCOL, re.DOTALL)
    assert block
    shown = "".join(re.match(r"\s*([0-9a-f ]+?)(?:  |$)", line)[1] for line in block[1].splitlines())  # type: ignore[index]
    assert shown.replace(" ", "") == vector("goodbye")["frames"][1]


def test_a_message_comes_back_as_it_was_sent(question: Envelope, identical: Identical) -> None:
    frames = encode(question)
    assert [bytes(frames[0]), len(frames)] == [b"queries/", 4]
    assert identical(decode(frames), question)


scalars = st.none() | st.booleans() | st.floats() | st.integers(-(2**63), 2**64 - 1) | st.text()
labels = st.text(st.characters(exclude_categories=("C", "Z")) | st.just(" "), min_size=1, max_size=64)


@given(options=st.dictionaries(labels, scalars, max_size=8), task=labels, seconds=st.floats(0, 1e9))
def test_whatever_a_query_may_hold_comes_back(options: dict[str, Any], task: str, seconds: float) -> None:
    message = QueryRequest(query=2**63 - 1, oldest_open=0, task=task, inputs={}, options=options, ttl=seconds)
    arrived = decode(encode(Envelope("queries/", "r", "a", 0, 1, message))).message
    assert repr(arrived) == repr(message)
    assert [type(value) for value in dict(arrived)["options"].values()] == [type(value) for value in options.values()]


@pytest.mark.parametrize("encoding", ["bf16", "fp16", "int8"])
def test_lossy_encodings_leave_integers_alone(question: Envelope, encoding: Any) -> None:
    frames = encode(question, encoding)
    arrived = dict(decode(frames).message)["inputs"]
    assert torch.equal(arrived["labels"], torch.tensor([3, 9]))
    assert arrived["x"].dtype is torch.float32
    assert len(frames[2]) < 8 * 4


def test_nothing_large_is_copied_on_the_way() -> None:
    x = torch.randn(2000)
    sent = encode(Envelope("to/a/", "r", "b", 1, 1, QueryAnswer(query=1, outputs={"x": x}, seconds=0.1)))
    assert torch.frombuffer(bytearray(sent[2]), dtype=torch.float32).equal(x)
    x[0] = 7.0  # forbidden, and visible for just that reason
    assert torch.frombuffer(bytearray(sent[2]), dtype=torch.float32)[0] == 7.0
    arrived = [bytearray(frame) for frame in sent]
    y = dict(decode(arrived).message)["outputs"]["x"]
    arrived[2][:4] = b"\0\0\0\0"
    assert y[0] == 0.0


def test_what_may_change_elsewhere_is_copied() -> None:
    x = torch.randn(2000)
    sent = encode(Envelope("to/a/", "r", "b", 1, 1, QueryAnswer(query=1, outputs={"x": x}, seconds=0.1)))
    y = dict(decode(sent).message)["outputs"]["x"]
    before = y.clone()
    x.zero_()
    assert torch.equal(y, before)


@pytest.mark.parametrize(
    "wrong",
    [
        {"topic": "queries"},
        {"topic": "Queries/"},
        {"topic": "a/b/c/d/"},
        {"topic": "queries/\n"},
        {"run": ""},
        {"run": "x" * 65},
        {"sender": "Anna"},
        {"sender": "a" * 33},
        {"incarnation": -1},
        {"incarnation": 2**63},
        {"number": 0},
        {"number": 2**63},
        {"message": Goodbye(reason="")},
        {"topic": "rounds/"},
        {"topic": "queries/x/"},
        {"topic": "to/"},
        {"topic": "to/a/b/"},
    ],
)
def test_a_faulty_envelope_is_neither_sent_nor_accepted(
    question: Envelope, wrong: dict[str, Any], forged: Forge
) -> None:
    fields = {key: getattr(question, key) for key in Envelope.__slots__}
    with pytest.raises(EncodingError):
        encode(Envelope(**(fields | wrong)))
    if "message" not in wrong:
        topic = {"topic": wrong.pop("topic").encode()} if "topic" in wrong else {}
        with pytest.raises(WireError):
            decode(forged(**topic, **wrong))


def test_what_cannot_be_written_is_refused_before_anything_is_sent(question: Envelope) -> None:
    fields: dict[str, Any] = {"query": 1, "oldest_open": 1, "task": "score", "inputs": {}, "options": {}, "ttl": 1}
    for wrong in ({"options": {"seed": 2**64}}, {"inputs": {"x": torch.tensor([float("nan")])}}):
        message = QueryRequest(**(fields | wrong))
        with pytest.raises(EncodingError):
            encode(Envelope("queries/", "r", "a", 1, 1, message), "int8")


@pytest.fixture
def answer() -> list[bytes]:
    """The frames of a numbered message that anna sent."""
    sent = QueryAnswer(query=1, outputs={"x": torch.arange(3)}, seconds=0.5)
    return [bytes(frame) for frame in encode(Envelope("to/b/", "r", "anna", 5, 9, sent))]


def test_a_retransmission_carries_the_same_message(answer: list[bytes], identical: Identical) -> None:
    again = encode_retransmission(answer, "r", "anna", 5, "to/b/")
    assert isinstance(decode(again).message, Retransmission)
    assert list(retransmitted_frames(again)) == answer
    assert identical(decode(retransmitted_frames(again)), decode(answer))


def test_only_its_sender_retransmits_a_message(answer: list[bytes]) -> None:
    for run, sender, incarnation in (("s", "anna", 5), ("r", "ben", 5), ("r", "anna", 6)):
        with pytest.raises(WireError, match="retransmitted by another"):
            decode(encode_retransmission(answer, run, sender, incarnation, "to/b/"))


def test_a_retransmitted_message_is_whole_numbered_and_no_retransmission(answer: list[bytes]) -> None:
    again = encode_retransmission(answer, "r", "anna", 5, "to/b/")
    unnumbered = encode(Envelope("presence/", "r", "anna", 5, 0, Goodbye(reason="")))
    for frames in (
        again[:2],
        again[:3],
        again[:4],
        [*again, b""],
        encode_retransmission(again, "r", "anna", 5, "to/b/"),
    ):
        with pytest.raises(WireError):
            decode(frames)
    with pytest.raises(WireError, match="carries a message that is not numbered"):
        decode(encode_retransmission(unnumbered, "r", "anna", 5, "to/b/"))

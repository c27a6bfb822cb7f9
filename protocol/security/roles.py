"""What the holder of a key may say, by its role: a client everything, a monitor no more than being there.

A client may do all that a guest may, and a guest all that a monitor may; of what a guest does beyond listening, each
part is a right that its statement of keys grants. Decides by the statement that is trusted here and by the message;
who has signed the message was found out before (`protocol.security.authentication`). Pure.
"""

from __future__ import annotations

from protocol.messages import Hello, Message, RetransmitRequest, RoundsRequest
from protocol.messages.presence import PeerInfo
from protocol.security.key_roles import KeyRole, Right, may_hear, may_take_part
from protocol.security.keys import PublicKeys

KINDS_OF_ROLES: dict[KeyRole, frozenset[str]] = {
    "monitor": frozenset({
        "hello", "welcome", "heartbeat", "goodbye", "group_key_grant", "retransmit_request", "retransmission",
        "retransmit_unavailable",
    }),
    "guest": frozenset({"progress_report"}),
    "client": frozenset({
        "capabilities", "query_answer", "query_refusal", "chunk_request", "prepare", "promise", "leader_announcement",
        "round_open", "contribution_available", "round_decline", "contribution_receipt", "round_close", "shard_reduced",
        "false_shard", "round_vote", "round_commit", "model_adopted", "rounds_aborted", "key_advertisement",
        "share_distribution", "equivocation", "encrypted_share", "shares_received", "consistency_check", "share_reveal",
        "offer", "offer_list", "exchange_decline", "offer_verdict", "offer_request",
    }),
}  # fmt: skip
"""The kinds of messages that a role may say, beside those of the roles below it."""

KINDS_OF_RIGHTS: dict[str, frozenset[Right]] = {
    "query_request": frozenset({"ask"}),
    "rounds_request": frozenset({"rounds"}),  # one that gives a model: "models" instead
    "record_request": frozenset({"rounds", "models"}),
    "exchange_request": frozenset({"rounds"}),
    "chunk": frozenset({"models"}),  # a guest holds nothing but the model that it gives
    "chunk_unavailable": frozenset({"models"}),
}
"""The kinds that a guest may say with one of these rights."""

_ROLE_BY_KIND = {kind: role for role, kinds in KINDS_OF_ROLES.items() for kind in kinds}


def refusal(keys: PublicKeys, message: Message) -> str:
    """Why the holder of keys may not say a message; empty where it may."""
    if isinstance(message, Hello) and not may_be(keys, message.peer):
        return f"{_described(keys)} may not take part as a {message.peer.role}"
    if isinstance(message, RetransmitRequest) and not may_hear(keys, message.topic.encode()):
        return f"{_described(keys)} may not hear {message.topic} and has missed nothing there"
    if keys.role == "client":
        return ""
    if keys.role == "guest" and (rights := _rights(message)):
        wanted = " or ".join(sorted(rights))
        return "" if rights & set(keys.may) else f"{_described(keys)} needs the right {wanted} to say {message.kind}"
    role = _ROLE_BY_KIND.get(message.kind, "guest")
    return "" if may_take_part(keys.role, role) else f"{_described(keys)} may not say {message.kind}"


def may_be(keys: PublicKeys, peer: PeerInfo) -> bool:
    """Whether the holder of keys may take part in the role that it says."""
    return may_take_part(keys.role, peer.role)


def _rights(message: Message) -> frozenset[Right]:
    """The rights of which a guest needs one to say a message; none for what needs no right, or is not a guest's."""
    if isinstance(message, RoundsRequest) and message.plan.given is not None:
        return frozenset({"models"})
    return KINDS_OF_RIGHTS.get(message.kind, frozenset())


def _described(keys: PublicKeys) -> str:
    rights = f" who may {', '.join(keys.may) or 'only listen'}" if keys.role == "guest" else ""
    return f"{keys.name}, let in as a {keys.role}{rights},"

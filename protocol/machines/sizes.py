"""How large a plan and a record may be, so that a member can say later what it has to.

A promise names of every model its latest record and the plan and record that its sender has voted for, all in one
header (`protocol.limits`); an opening names most of this, too. Who can make one of them as large as a header can make
members unable to promise, and so leave a run without a leader for good. Therefore a member votes for nothing larger
than this: the guest answers for the plan, each contributor for its values, and the leader for the rest of the record.
With up to 24 members all fits for three models, with up to 64 for two, whatever is in it. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping

from protocol.messages.round_values import RoundPlanMessage
from protocol.messages.rounds import RoundCommit
from protocol.transcript import canonical, canonical_map

MAX_PLAN_BYTES = 16 << 10
"""Bytes of a plan."""

MAX_VALUES_BYTES = 24 << 10
"""Bytes of the values that all contributors to a round may measure together, each an equal part of it."""

LEAST_VALUES_BYTES = 512
"""Bytes of the values that a contributor may measure, however many there are."""

MAX_REASONS_BYTES = 4 << 10
"""Bytes of the reasons in one map of a record, each an equal part of it."""

LEAST_REASON_BYTES = 80
"""Bytes of a reason, however many there are."""

MAX_FIXED_BYTES = 10 << 10
"""Bytes of a record beside its values and what there is of every member."""

MEMBER_BYTES = 256
"""Bytes of a record for every member, beside its values and without its vote."""


def plan_objection(plan: RoundPlanMessage) -> str:
    """Why a plan is too large; empty if it is not."""
    size = len(canonical(plan))
    return f"a plan of {size} bytes, and {MAX_PLAN_BYTES} are the most" if size > MAX_PLAN_BYTES else ""


def values_objection(values: Mapping[str, float], members: int) -> str:
    """Why what a contributor has measured is too large among so many members; empty if it is not."""
    size, most = len(canonical_map(dict(values))), max(LEAST_VALUES_BYTES, MAX_VALUES_BYTES // max(1, members))
    return f"it has values of {size} bytes, and {most} are the most of one of {members} members" if size > most else ""


def record_objection(record: RoundCommit, members: int) -> str:
    """Why a record of a run of so many members is too large, beside its votes; empty if it is not."""
    for name, values in record.values.items():
        if objection := values_objection(values, members):
            return f"{objection} ({name})"
    if len(record.votes) > members:
        return f"a record with {len(record.votes)} votes of {members} members"
    size = len(canonical(record.model_copy(update={"values": {}, "votes": {}})))
    most = MAX_FIXED_BYTES + members * MEMBER_BYTES
    return f"a record of {size} bytes beside its values, and {most} are the most" if size > most else ""


def truncated(reasons: Mapping[str, str]) -> dict[str, str]:
    """Reasons cut to their part of what a record has room for."""
    most = max(LEAST_REASON_BYTES, MAX_REASONS_BYTES // max(1, len(reasons)))
    cut = {name: reason[:500].encode(errors="replace")[:most] for name, reason in reasons.items()}
    return {name: reason.decode(errors="ignore") for name, reason in cut.items()}

"""What a session does about a command, or about its run: decisions, without doing them. Pure.

Each function looks at the state and returns what it `Decided`: the events to append, and what to start
or stop once they are committed. Ids are given by the caller.
"""

from __future__ import annotations

from gateway.sessions.decide.cancel import cancel
from gateway.sessions.decide.decided import Decide, Decided, NewIds
from gateway.sessions.decide.ends import close, end, fail, pause, say
from gateway.sessions.decide.leave import grace, judged_after, leave
from gateway.sessions.decide.queue import edit_queue, steer
from gateway.sessions.decide.resume import continue_run
from gateway.sessions.decide.send import send
from gateway.sessions.decide.take_over import MAX_ATTEMPTS, hand_over, take_over

__all__ = [
    "MAX_ATTEMPTS",
    "Decide",
    "Decided",
    "NewIds",
    "cancel",
    "close",
    "continue_run",
    "edit_queue",
    "end",
    "fail",
    "grace",
    "hand_over",
    "judged_after",
    "leave",
    "pause",
    "say",
    "send",
    "steer",
    "take_over",
]

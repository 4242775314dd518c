"""What no longer counts of what a run has said, because it is said anew. Pure.

A take-over says the unfinished steps anew; a node that is tried again, all of its visit. The log has
it all, in order; a stream cannot take back what it has sent. So a stream that begins later leaves out
what it knows to be superseded, and one that is under way says which messages are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from runtime.events import (
    Event,
    MessageStarted,
    ModelCompleted,
    NodeCompleted,
    NodeFailed,
    NodeStarted,
    ReasoningStarted,
    RunAttemptStarted,
    ToolCallStarted,
)

__all__ = ["Said", "superseded_in"]

Path = tuple[str, ...]
Ids = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Said:
    """What was said that may still be said anew.

    Attributes:
        steps: By path, the messages, reasonings and calls of its unfinished model call.
        visits: By the path of a node, its superstep and all that was said in it.
    """

    steps: Mapping[Path, Ids] = field(default_factory=dict)
    visits: Mapping[Path, tuple[int | None, Ids]] = field(default_factory=dict)

    def note(self, event: Event) -> tuple[Said, Ids]:
        """Take an event into account; return also the ids that are superseded by it."""
        said: Said = self
        again: Ids = ()
        match event:
            case MessageStarted() | ReasoningStarted() | ToolCallStarted():
                said = self._add(event)
            case ModelCompleted():
                said = self._finish(event.path, deep=False)
            case NodeStarted():
                said = self._enter(event)
            case NodeCompleted():
                said = self._leave((*event.path, event.node))
            case NodeFailed(will_retry=True):
                said, again = self._again((*event.path, event.node))
            case RunAttemptStarted() if self.steps:
                said = replace(self, steps={})
                again = tuple(id_ for ids in self.steps.values() for id_ in ids)
            case _:
                pass
        return said, again

    def _add(self, event: MessageStarted | ReasoningStarted | ToolCallStarted) -> Said:
        id_ = event.call_id if isinstance(event, ToolCallStarted) else event.message_id
        path = event.path
        steps = {**self.steps, path: (*self.steps.get(path, ()), id_)}
        visits = {
            node: (step, (*ids, id_)) if path[: len(node)] == node else (step, ids)
            for node, (step, ids) in self.visits.items()
        }
        return Said(steps, visits)

    def _finish(self, path: Path, *, deep: bool) -> Said:
        """Forget the unfinished steps of a path, or also of all below it."""
        depth = len(path)
        steps = {
            key: ids
            for key, ids in self.steps.items()
            if not (key[:depth] == path if deep else key == path)
        }
        return self if len(steps) == len(self.steps) else replace(self, steps=steps)

    def _enter(self, event: NodeStarted) -> Said:
        node = (*event.path, event.node)
        before = self.visits.get(node)
        if before is not None and before[0] == event.superstep:
            return self  # it goes on in its superstep
        return replace(self, visits={**self.visits, node: (event.superstep, ())})

    def _leave(self, node: Path) -> Said:
        visits = {key: visit for key, visit in self.visits.items() if key != node}
        return replace(self._finish(node, deep=True), visits=visits)

    def _again(self, node: Path) -> tuple[Said, Ids]:
        step, ids = self.visits.get(node, (None, ()))
        kept = {**self.visits, node: (step, ())}
        return replace(self._finish(node, deep=True), visits=kept), ids


def superseded_in(events: Iterable[Event]) -> frozenset[str]:
    """Return the ids of all that was said and then said anew in a run's events so far."""
    said, found = Said(), set[str]()
    for event in events:
        said, ids = said.note(event)
        found.update(ids)
    return frozenset(found)

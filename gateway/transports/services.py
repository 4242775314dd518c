"""What every transport works with."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.config import Settings
from gateway.sessions.manager import SessionManager
from gateway.transports.admission import Admission
from gateway.transports.crowd import Crowds
from gateway.transports.draining import OpenStreams
from gateway.transports.listeners import Listeners

__all__ = ["Services"]


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of one server that requests share.

    Attributes:
        manager: The sessions.
        settings: The server's settings.
        streams: The open streams.
        crowds: How many readers each session has.
        listeners: The open streams of clients.
        admission: How much is taken on at once.
    """

    manager: SessionManager
    settings: Settings
    streams: OpenStreams = field(default_factory=OpenStreams)
    crowds: Crowds = field(default_factory=Crowds)
    listeners: Listeners = field(default_factory=Listeners)
    admission: Admission = field(default_factory=Admission)

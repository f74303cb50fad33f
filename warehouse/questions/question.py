"""A question as a value: its name, its limits, what it is about and, if it is invalid, the reason for refusing it.

A question does not know its principal: warehouse.questions.door passes it a Request, which says what the principal may see.
The modules that build questions are listed in warehouse.questions.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Generic, TypeVar

from warehouse import config
from warehouse.access.sight import Sight
from warehouse.engine import Limits, Window

T = TypeVar("T", covariant=True)
ALL_TIME = Window()
NO_ENGINE = config.Engine()
USUAL, FEW = Limits(), Limits(rows=200)
"""Default limits of questions."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What a question is about, as the access log records it."""

    window: Window = ALL_TIME
    text: str | None = None
    """The question's conditions or its SQL."""
    clusters: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Request:
    """One question being answered: what its principal may see of the lake, and what else is needed to answer it."""

    sight: Sight
    rollups: config.Rollups
    """How hours that are not rolled up yet are aggregated."""
    engine: config.Engine = NO_ENGINE
    """The distributed engine, for questions that it may answer."""
    cancelled: threading.Event | None = None
    """Set when the answer is no longer wanted."""


@dataclass(frozen=True, kw_only=True)
class Question(ABC, Generic[T]):
    """A question about a lake. Equal questions get equal answers from the same lake under the same scope."""

    name: str
    """Its name in the access log."""
    limits: Limits = USUAL
    refusal: str | None = None
    """Why the question is refused, in words for the user; None if it is valid. A refused question is still recorded in the access log."""

    @property
    @abstractmethod
    def subject(self) -> Subject:
        """What the question is about."""

    @abstractmethod
    def answer(self, request: Request) -> T:
        """Return the answer, within what the request's principal may see. Raises QueryError, LakeError."""

"""A question as a value: its name, its source, its SQL and values, and why it cannot be asked if it cannot.

A question knows nothing of who asks: warehouse.questions.door gives it a Request, which says what the principal sees.
Which questions there are is told by the modules that make them.
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
USUAL, FEW = Limits(), Limits(rows=200)
"""Limits of questions that are given none."""


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
    """One question on its way: how its principal sees the lake, and what else answering it takes."""

    sight: Sight
    rollups: config.Rollups
    """How hours that are not rolled up yet are summed up."""
    cancelled: threading.Event | None = None
    """Set when the answer is no longer wanted."""


@dataclass(frozen=True, kw_only=True)
class Question(ABC, Generic[T]):
    """Something that can be asked of a lake. Equal questions get equal answers from the same lake under the same scope."""

    name: str
    """Its name in the access log."""
    limits: Limits = USUAL
    refusal: str | None = None
    """Why it cannot be asked, for people; None if it can. A refused question is noted in the access log all the same."""

    @property
    @abstractmethod
    def subject(self) -> Subject:
        """What the question is about."""

    @abstractmethod
    def answer(self, request: Request) -> T:
        """The answer within what the request's principal may see. Raises QueryError, LakeError."""

"""The events of the simulated company: a deployment that changes who talks to whom, an incident, a new external host.

All times are relative to one moment, so that viewers of the history know what to find.
"""

from __future__ import annotations

import datetime as dt
import functools
from dataclasses import dataclass

from collectors.hubble_api.flow import flow_pb2
from collectors.simulator.fleet import CALLS, OUTSIDE, Pod

DEPLOYED = "checkout-api"
"""The service whose second version calls other services than its first."""
CUT_OFF = ("cart-api", "cart-db")
"""The services that a mistaken policy separates during the incident."""
NEW_HOST = ("collector", ("telemetry.vendor.example", "198.51.100.200"))

_ENDED = ("checkout-api", "inventory-api")
_BEGUN = (("checkout-api", "shipping-api"), ("checkout-api", "mailer"))
CALLS_AFTER = (*(pair for pair in CALLS if pair != _ENDED), *_BEGUN)


@dataclass(frozen=True, slots=True)
class Phase:
    """Which of the events are in effect."""

    deployed: bool = False
    incident: bool = False
    new_host: bool = False
    opened: bool = False
    removed: bool = False

    @property
    def calls(self) -> tuple[tuple[str, str], ...]:
        """The calls between services: caller and called."""
        return CALLS_AFTER if self.deployed else CALLS

    def outside(self, *, drifted: bool) -> dict[str, tuple[str, str]]:
        """Return the name and address of a service's host on the internet; the new host appears in the cluster that drifts."""
        return OUTSIDE | dict([NEW_HOST]) if self.new_host and drifted else OUTSIDE

    def phase(self, _at_ns: int) -> Phase:
        """Return itself: a story in which nothing changes."""
        return self


@dataclass(frozen=True, slots=True)
class Story:
    """The times of the events, in UTC."""

    deployment: dt.datetime
    incident: tuple[dt.datetime, dt.datetime]
    new_host: dt.datetime

    @classmethod
    def before(cls, now: dt.datetime) -> Story:
        """Return a story whose last event ended hours before `now`."""
        hour = now.replace(minute=0, second=0, microsecond=0)
        begin = hour - dt.timedelta(hours=6)
        return cls(
            deployment=hour - dt.timedelta(hours=20),
            incident=(begin + dt.timedelta(minutes=10), begin + dt.timedelta(minutes=35)),
            new_host=hour - dt.timedelta(hours=12),
        )

    @property
    def opened(self) -> dt.datetime:
        """When a blueprint policy of the last cluster was opened, for good."""
        return self.new_host - dt.timedelta(hours=2)

    @property
    def removed(self) -> tuple[dt.datetime, dt.datetime]:
        """Between which times a blueprint policy of the last cluster was not there."""
        return self.deployment + dt.timedelta(hours=2), self.deployment + dt.timedelta(hours=5)

    def phase(self, at_ns: int) -> Phase:
        """Return the phase at a time, in nanoseconds since 1970."""
        deployment, begin, end, new_host, opened, gone, back = _nanoseconds(self)
        return Phase(
            deployed=at_ns >= deployment,
            incident=begin <= at_ns < end,
            new_host=at_ns >= new_host,
            opened=at_ns >= opened,
            removed=gone <= at_ns < back,
        )

    def changes(self) -> list[dt.datetime]:
        """Return the times at which the phase changes, in order."""
        return sorted([self.deployment, *self.incident, self.new_host, self.opened, *self.removed])


@functools.lru_cache(maxsize=8)
def _nanoseconds(story: Story) -> tuple[int, ...]:
    moments = (story.deployment, *story.incident, story.new_host, story.opened, *story.removed)
    return tuple(int(moment.timestamp()) * 1_000_000_000 for moment in moments)


@functools.lru_cache(maxsize=1024)
def _renamed(name: str) -> str:
    service, _, suffix = name.partition("-api-")
    return f"{service}-api-{suffix[::-1].replace('-', '', 1)[:9]}-{suffix[-5:][::-1]}"


def redeployed(pod: Pod) -> Pod:
    """Return the pod after the deployment: another name, and the label of the new version, which gives another identity."""
    endpoint = flow_pb2.Endpoint()
    endpoint.CopyFrom(pod.endpoint)
    endpoint.pod_name = _renamed(endpoint.pod_name)
    endpoint.identity ^= 1
    endpoint.labels.append("k8s:app.kubernetes.io/version=2.0")
    endpoint.labels.sort()
    return Pod(pod.service, pod.protocol, pod.port, pod.node, pod.ip, pod.mac, endpoint)

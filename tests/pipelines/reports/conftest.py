"""A small lake with flows, a ledger, posture and configuration history, of which reports are made."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipelines.evidence import findings
from warehouse import config
from warehouse.lake.tables import Lake
from warehouse.schema import COVERAGE, DRIFT, FINDINGS, FLOWS, POLICY_VERSIONS, POSTURE, Table

START = dt.datetime(2026, 3, 2, tzinfo=dt.UTC)
HOUR, DAY = dt.timedelta(hours=1), dt.timedelta(days=1)
END = START + 2 * DAY
KNOWN = END + HOUR


class Fleet:
    """A lake of two clusters, `eu` and `us`, and the configuration that owns it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        grants = [
            {"subject": "group:payments", "role": "namespace-owner", "clusters": ["eu"], "namespaces": ["pay"]},
            {"subject": "ada", "role": "platform-admin"},
            {"subject": "audrey", "role": "auditor"},
            {"subject": "nobody", "role": "namespace-owner", "namespaces": ["nowhere"]},
        ]
        self.document: dict[str, Any] = {
            "lake": {"url": str(folder / "lake")},
            "clusters": [{"name": name, "hubble": {"address": "127.0.0.1:1", "plaintext": True}} for name in ("eu", "us")],
            "ownership": {"grants": grants},
        }
        self.configured()
        self.lake = Lake.open(self.settings.lake)
        self._number = 0

    def configured(self, **sections: Any) -> Path:
        """Write the configuration file, with more sections; return its path."""
        self.document |= sections
        path = self.folder / "hindcast.yaml"
        path.write_text(json.dumps(self.document))
        self.settings = config.load_config(path)
        return path

    def put(self, table: Table, *rows: dict[str, Any]) -> None:
        """Append rows in one commit."""
        files = self.lake.write_files(table, pa.Table.from_pylist(list(rows), schema=table.schema))
        self.lake.commit(table, files, transactions={}, metadata={})

    def flow(
        self,
        source: str,
        destination: str,
        *,
        at: dt.datetime = START + HOUR,
        times: int = 1,
        cluster: str = "eu",
        recorded: dt.timedelta = dt.timedelta(seconds=2),
        **more: Any,
    ) -> None:
        """Store flows a second apart between workloads as `namespace/workload`, or a DNS name for what is outside."""
        rows = []
        for number in range(times):
            self._number += 1
            moment = at + dt.timedelta(seconds=number)
            row = {
                "cluster": cluster, "date": moment.date(), "time": moment, "uuid": f"{self._number:08}", "flow_count": 1,
                "verdict": "FORWARDED", "traffic_direction": "INGRESS", "l4_protocol": "TCP", "source_port": 40_000,
                "destination_port": 8080, "is_reply": False, "event_type": 4, "node_name": f"{cluster}/n1",
                "recorded_lag_ms": recorded // dt.timedelta(milliseconds=1),
            }  # fmt: skip
            for side, end in (("source", source), ("destination", destination)):
                namespace, _, name = end.partition("/")
                if name:
                    row |= {f"{side}_namespace": namespace, f"{side}_workload_name": name, f"{side}_workload_kind": "Deployment"}
                    row |= {f"{side}_pod_name": f"{name}-0", f"{side}_labels": [f"k8s:app={name}"], f"{side}_cluster_name": cluster}
                else:
                    row |= {
                        f"{side}_names": [end],
                        f"{side}_labels": ["reserved:world"],
                        f"{side}_ip": "203.0.113.7",
                        f"{side}_identity": 2,
                    }
            if more.get("verdict") == "DROPPED":
                row |= {"is_reply": None, "event_type": 5, "drop_reason_desc": "POLICY_DENIED"}
            rows.append(row | more)
        self.put(FLOWS, *rows)

    def observed(self, cluster: str, begin: dt.datetime = START, end: dt.datetime = KNOWN, **more: Any) -> None:
        """Store that a cluster's node was observed."""
        rows = []
        while begin < end:
            until = min(end, begin.replace(hour=0) + DAY)
            row = {"cluster": cluster, "date": begin.date(), "from": begin, "to": until, "node_name": f"{cluster}/n1", "state": "connected"}
            rows.append(row | {"source": "stream", "flows_received": 10, "recorded": until} | more)
            begin = until
        self.put(COVERAGE, *rows)

    def policy(self, name: str, at: dt.datetime, *, namespace: str = "pay", ended: dt.datetime | None = None, by: str = "paula") -> None:
        """Store a version of a policy."""
        manifest = {"kind": "CiliumNetworkPolicy", "metadata": {"name": name, "namespace": namespace}, "spec": {"endpointSelector": {}}}
        ends = {} if ended is None else {"valid_to": ended, "ended_recorded": ended, "ended_how": "changed", "ended_by": by}
        row = {"cluster": "eu", "kind": "CiliumNetworkPolicy", "namespace": namespace, "name": name, "valid_from": at, "recorded": at}
        self.put(POLICY_VERSIONS, row | {"hash": str(at), "manifest": json.dumps(manifest), "changed_by": by, "source": "watch"} | ends)

    def fill(self) -> None:
        """Store a little of everything."""
        for day in (0, 1):
            at = START + day * DAY + HOUR
            self.flow("shop/web", "pay/api", at=at, times=40)
            self.flow("pay/api", "db/postgres", at=at + HOUR, times=20, destination_port=5432)
            self.flow("shop/web", "db/postgres", at=at + 2 * HOUR, times=5, verdict="DROPPED")
        self.flow("pay/api", "api.bank.example", at=START + DAY + 3 * HOUR, times=3, destination_port=443)
        self.flow("shop/web", "shop/cart", cluster="us", at=START + 4 * HOUR, times=10)
        self.observed("eu")
        self.observed("us", START, START + DAY)
        self.put(COVERAGE, self._gap())
        time = START + DAY
        day = {"cluster": "eu", "date": time.date(), "time": time}
        self.put(POSTURE, *(day | {"control": name, "status": status, "checked": 3, "failed": failed, "failing": ["pay"][:failed]}
                            for name, status, failed in (("C-0206", "fail", 1), ("C-0260", "pass", 0))))  # fmt: skip
        self.put(
            DRIFT,
            day
            | {"drift": "modified", "state": "open", "blueprint": "base", "control": "BP-OBJ", "kind": "NetworkPolicy", "namespace": "pay"}
            | {"name": "deny", "severity": "high", "since": time, "changed_by": "mallory", "summary": "spec.ingress differs <script>"},
        )
        self.put(
            FINDINGS,
            day
            | {"kind": "unused_rule", "severity": "low", "namespace": "pay", "subject": "CiliumNetworkPolicy/api", "summary": "=1+1 unused"}
            | {"source": "dag policy_daily", "key": "k1", "state": "open", "since": time, "detail": "{}"},
        )
        self.policy("api", START + HOUR, ended=START + DAY + 2 * HOUR)
        self.policy("api", START + DAY + 2 * HOUR)
        findings.record(self.lake, kind="note", severity="info", summary="not open", source="test", cluster="eu", now=time)

    @staticmethod
    def _gap() -> dict[str, Any]:
        begin = START + DAY
        row = {"cluster": "us", "date": begin.date(), "from": begin, "to": END, "node_name": "us/n1", "state": "gap"}
        return row | {"source": "ring_overrun", "recorded": END, "detail": "the ring was overrun"}


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    """A lake with a little of everything."""
    made = Fleet(tmp_path)
    made.fill()
    return made


@pytest.fixture(scope="session")
def read_fleet(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """The same, made once, for tests that only read it."""
    made = Fleet(tmp_path_factory.mktemp("fleet"))
    made.fill()
    return made


@pytest.fixture
def empty_fleet(tmp_path: Path) -> Fleet:
    """A lake without a row."""
    return Fleet(tmp_path)

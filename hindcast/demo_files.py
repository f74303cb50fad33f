"""The demo's files beside its configuration: the fleet's blueprint and alert rules; and the sections that name them.

What the fleet does, and its past, do not belong here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from collectors.simulator import policies

BLUEPRINT = f"""\
blueprint: v1
name: {policies.BLUEPRINT}
version: 1.0.0
description: Ingress closed in every namespace but for the gateway's port, Cilium enforcing, Hubble on.
clusters: {{}}

cilium:
  settings:
    enable-policy: always
    enable-hubble: "true"
    enable-wireguard: "true"

namespaces:
  - policies:
      - template: default-deny-ingress
  - select: {{names: [ingress]}}
    policies:
      - template: manifest
        object: {json.dumps(policies.gateway_policy())}

drift: notify
"""
PLATFORM_ALERTS = """\
groups:
  - name: platform
    rules:
      - alert: Drift
        expr: drift_opened(severity="high")
        labels: {severity: "{{ severity }}"}
        annotations:
          summary: "{{ $labels.cluster }}: {{ summary }}"
      - alert: CoverageLow
        expr: coverage_below(share=0.95)
        labels: {severity: medium}
        annotations:
          summary: "{{ $value }} of the last ten minutes of {{ $labels.cluster }} was observed"
      - alert: CollectorSilent
        expr: collector_silent(after="10m")
        labels: {severity: critical}
        annotations:
          summary: "nothing was recorded of {{ $labels.cluster }} for {{ $value }} seconds"
"""
TEAM_ALERTS = """\
groups:
  - name: payments
    rules:
      - alert: DroppedIntoPayments
        expr: |
          SELECT cluster, destination_namespace AS namespace, count(*) AS value
          FROM flows
          WHERE verdict = 'DROPPED' AND destination_namespace IN ('payments', 'fraud')
          GROUP BY ALL HAVING count(*) >= 5
        labels: {severity: medium}
        annotations:
          summary: "{{ $value }} flows into {{ $labels.namespace }} were dropped in ten minutes"
      - alert: NewExternalName
        expr: egress_to_new_name(namespace="*", lookback="1d")
        labels: {severity: low}
        annotations:
          summary: "{{ $labels.namespace }} connects to {{ $labels.name }} for the first time in a day"
"""
OWNER = "paula"
"""The user of the demo whose team has alert rules of its own."""


def write(folder: Path) -> dict[str, Any]:
    """Write the files below a folder; return the sections of the configuration there that name them, and its reports."""
    files = {
        f"blueprints/{policies.BLUEPRINT}.yaml": BLUEPRINT,
        "alerts/platform.yaml": PLATFORM_ALERTS,
        "alerts/payments.yaml": TEAM_ALERTS,
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    every_day = {"cron": "0 6 * * *", "window": "1d"}
    return {
        "blueprints": [f"./blueprints/{policies.BLUEPRINT}.yaml"],
        "alerts": {"rules": [{"files": "alerts/platform.yaml"}, {"files": "alerts/payments.yaml", "subject": OWNER}]},
        "reports": {
            "schedules": [
                {"name": "daily", "report": "fleet", **every_day},
                {"name": "owners", "report": "owner", "subjects": ["owners"], **every_day},
            ]
        },
    }

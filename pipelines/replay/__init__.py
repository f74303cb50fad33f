"""Recorded history as the policy engine reads it: what was in force when, and who talked to whom.

Everything is read through `Door.answer` for one principal, so what she may not see is missing here, too, and makes verdicts
uncertain. Judging belongs to `pipelines.policy`, which is pure; printing to `hindcast`; drawing to `dashboards`.

- `in_force`: the policies, the agent's settings and what policies refer to, in each cluster, cut into periods in which nothing
  changed. `History(door, principal).periods(window)` returns them; `Period.policies` is the compiled set.
- `ends`: ends of edges and flows as the engine's `Side`.
- `auditing`: audits of the policies in force; `usage_of_rules`: when each rule decided.
- `observed_traffic`: the traffic of a namespace as recommendations are made from it; `recommending.recommended` makes them.
- `explaining`: why a flow was allowed or denied; `explain_row` takes a flow that a page shows. `asked_connection` finds it by its ends.
- `traffic`: the distinct connections of a window as arrays.
- `simulation`: what a change of policies makes of them; `flows_again` reads flows where edges say too little; `changed_edges` makes
  rows of the outcome, and `examples` adds flows to them. `agreement` compares the replay with what was recorded.
- `reachable`: who may reach whom by the policies in force, beside who did, for the map.
- `whatif`: all of that in one call, `simulate(History(door, principal), WhatIf(...))`.
"""

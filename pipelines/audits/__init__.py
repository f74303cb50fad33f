"""Audits of policies: rules that nothing needs, that are too wide, or that select nothing, and who can reach a workload.

Pure: functions of compiled policies, workloads and connections, so that commands, pipelines and the dashboard can all import
them. Verdicts come from `pipelines.policy`; storing findings belongs to `pipelines.evidence`.

- `finding`: what an audit finds, with a key that stays the same while the finding stays open.
- `covering`: whether one rule matches everything that another one matches; `needless` finds shadowed and redundant rules.
- `wide`: rules that allow everyone, every address, or egress to the world without DNS names.
- `selecting`: selectors that select nothing that exists, and workloads that no policy isolates.
- `usage`: which rules and policies decided on recorded connections, and which did not.
- `effect`: policies that open what a blueprint closes, or deny what it opens.
- `strangers`: ends that no policy is about.
- `workloads`: workloads as policies select them.
- `exposure`: who can reach a workload by policy, against who did.
"""

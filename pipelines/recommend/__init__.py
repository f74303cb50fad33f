"""Least-privilege network policies, made from traffic that was observed.

Pure: no input or output, so that commands, pipelines and the dashboard can all import it. Reading recorded traffic belongs
in `pipelines.replay`; what a policy means belongs in `pipelines.policy`, whose verdicts check every recommendation.

The path from traffic to a policy through the modules:

- `observed` describes the traffic: its ends and its edges.
- `triage` sets apart what a policy should not be made from: replies, drops, scans, traffic seen once.
- `selectors` chooses the labels that a policy selects pods by.
- `peers` names the other end of a rule: by labels, entity, DNS name or range of addresses.
- `drafts` groups edges into rules, each with its evidence; `manifests` writes them as Kubernetes objects.
- `recommendation` does all of it for a namespace or workload; `unseen` says what the traffic could not show.
- `writing` prints the objects as YAML with their evidence as comments; `merging` adds them to a file that exists.
"""

"""Proposals: changes of policies that owners ask for, what they would do, who must approve them, and how they reach a cluster.

- `model`: a proposal as it follows from its events. `store` keeps the events, append-only, in the table `policy_changes`.
- `rules`: who may propose, approve and apply. `reading` turns files into the objects of proposals.
- `checking`, `guard_rails` and `judging`: what is wrong with a proposal, what it would have done to recorded traffic, what is risky in it.
- `steps`: propose, judge again, approve, reject. `applying` changes the cluster, `live` talks to its API server.
- `handing_over` makes a patch or a Git commit of a proposal instead. `watching` looks for drops that an applied one causes,
  `watching_all` does so for all, and `rolling_back` puts back what was changed.
"""

"""The policy engine: what a set of network policies allows and denies, by which rule, and why.

Pure: no input or output, and nothing of ours but `warehouse.errors` and the reader of YAML in `pipelines.objects`, so
that commands, pipelines and the dashboard can all import it. Reading files belongs in `hindcast.policy`; reading recorded
history belongs in the pipelines around it.

The path of a policy through the modules:

- `documents` reads YAML and JSON and remembers where each field stands.
- `network_policy`, `cilium_policy`, `cluster_policy` and `admin_policy` turn one kind each into the rules of `model`,
  or refuse the policy as the API server or the agent would (`refusals`).
- `selectors`, `peers`, `ports` and `layer7` hold the parts of a rule that match.
- `policy_set` compiles policies into an index; `verdict` walks it for one connection.
- `bulk` gives the same verdicts for many connections at once, from what `side_vectors` and `subject_groups` work out once for each
  distinct end.
- `cases` reads the test cases of `hindcast policy test`; `topology` works out the labels of pods, nodes and addresses.
- `settings` holds the agent's options, and everything in which releases of Cilium differ, as data.
"""

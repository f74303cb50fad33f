"""Central editing: one policy for many clusters, as a change of a blueprint's file.

- `splicing`: changes single entries of a YAML file and leaves the rest as it is written. Pure.
- `editing`: makes the changed file from an edited policy. Pure.
- `previewing`: what the change would do in each cluster: the plan, the simulation, what guard-rails say.
- `model`: a change as it follows from its events. `store` keeps them, append-only, in the table `policy_changes`.
- `acting`: publishes a change to canaries, then to the rest; stops it, and rolls it back.
- `aftermath`: what was dropped in a cluster because of a change. `watching_all` looks at every change, and rolls back by the rule.
- `handing_over`: hands the changed file over to Git.

Planning and publishing are those of `pipelines.blueprints`, watching and putting back those of `pipelines.proposals`.
"""

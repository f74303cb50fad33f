"""The parts of the What-if page: a proposed policy, and what it would have done to recorded traffic.

Judging belongs to `pipelines.policy`, replaying to `pipelines.replay`; here is what a person writes, chooses and reads.

- `draft`: the text as policies, what is wrong with it, and how it is kept in the address.
- `starting`: texts to start from: policies in force, and examples.
- `editing`: the card with the editor. `results` and `edge_table` draw what came of a replay.
- `by_day`: when the flows were seen that would have been denied.
"""

"""The parts of the Proposals page: a new proposal, the list, and one proposal with what can be done about it.

Checking, deciding and applying belong to `pipelines.proposals`; here is what a person reads, chooses and clicks.

- `making`: the card in which a policy that came from What-if is proposed.
- `listing`: the table of proposals. `shown` draws one of them, `acting` the buttons that change something.
"""

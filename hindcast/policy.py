"""`hindcast policy`: what network policies allow and deny, and why; what they should allow. Each command has a module beside this one."""

from __future__ import annotations

from hindcast.lazy import Entry, group

policy = group(
    Entry(
        "test",
        "hindcast.policy_cases:test",
        "Test policies against connections that should be allowed or denied.",
        "hindcast policy test tests/policies.yaml --output junit --file results.xml",
    ),
    Entry(
        "simulate",
        "hindcast.policy_simulate:command",
        "Replay recorded traffic against changed policies: what is newly denied, newly allowed or uncertain.",
        "hindcast policy simulate candidate.yaml --since 30d --namespace shop",
    ),
    Entry(
        "recommend",
        "hindcast.policy_recommend:recommend",
        "Recommend least-privilege policies for a namespace or workload from its recorded traffic.",
        "hindcast policy recommend shop --cluster prod-eu-1 --since 30d > shop-policies.yaml",
    ),
    Entry(
        "explain",
        "hindcast.policy_explain:explain",
        "Explain why a flow was allowed or dropped, by the policies that were in force then.",
        "hindcast policy explain --source shop/web --destination data/db --port 5432 --at 2h --cluster prod-eu-1",
    ),
    Entry(
        "audit",
        "hindcast.policy_audit:audit",
        "Audit the policies in force: what nothing needs, is too wide, or selects nothing.",
        "hindcast policy audit --window 30d --output sarif --file audit.sarif",
    ),
    Entry(
        "propose",
        "hindcast.policy_propose:command",
        "Propose a change of policies: checked, tried on recorded traffic, and stored until it is approved and applied.",
        "hindcast policy propose web.yaml --cluster prod-eu-1 --as ada@example.com --group checkout",
    ),
    Entry(
        "proposals",
        "hindcast.policy_proposals:proposals",
        "Look at proposals; approve, reject, apply and roll them back.",
        "hindcast policy proposals list --as ada@example.com",
    ),
    text="Evaluate network policies: what they allow and deny, by which rule, and why; and what they should allow.",
)

"""Questions to the lake: what can be asked, and the door that answers it.

    door = Door(lake, settings.ownership, settings.rollups, purpose="report: weekly")
    answer = door.answer(principal, count_questions.timeline(FlowFilter(since=since, until=until, clusters=("eu",))))
    answer.rows, answer.shares, answer.source

A question is a value (`question.Question`): frozen, hashable, without a principal, so that it can be built anywhere, compared and
used as a key. `Door.answer` is the only way to the rows: it works out what the principal sees (`warehouse.access.sight.Sight`),
refuses what cannot be asked, notes the question in the access log, and gives an `answers.Answer` (or what the question's type says).

Questions are made by these modules:

- `flow_questions`: `newest`, `one_flow`, `completions`
- `count_questions`: `timeline`, `pulse`, `namespaces`, `drop_reasons`, `values`
- `edge_questions`: `edges`, `new_edges`, `talkers`, `names`
- `edges_in_time`: `edges_in_time`, which the map and the comparison draw; `first_and_last_seen` over all that is recorded
- `record_questions`: `Ledger`, `Drift`, `Controls`, `Evaluations`, `Configuration`, `ConfigurationCoverage`, `AccessLog`, `SizeOfLake`
- `sql_question`: `OwnSql`, a person's own SQL

A new question over flows is a function that returns a `FlowQuestion` (`flow_table`: SQL over the relation MATCHING) or a
`RollupQuestion` (`rollup_table`: SQL over `visible_<rollup>`); one over other records is a class with `subject` and `answer`.
tests/access/test_doors.py fails until the question has a test for every kind of principal. Limits belong to the question:
`newest(wanted, limits=Limits(rows=50))`. Drawing and printing do not belong here.
"""

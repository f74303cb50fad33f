"""Questions about the data in the lake, and the `Door` that answers them.

    door = Door(lake, settings.ownership, settings.rollups, purpose="report: weekly")
    answer = door.answer(principal, count_questions.timeline(FlowFilter(since=since, until=until, clusters=("eu",))))
    answer.rows, answer.shares, answer.source

A question is a value (`question.Question`): it is frozen, hashable and has no principal, so it can be built anywhere, compared
and used as a key. `Door.answer` is the only way to read rows: it works out what the principal may see
(`warehouse.access.sight.Sight`), rejects invalid questions, records the question in the access log, and returns an
`answers.Answer` (or whatever type the question declares).

These modules build questions:

- `flow_questions`: `newest`, `one_flow`, `completions`
- `count_questions`: `timeline`, `pulse`, `namespaces`, `drop_reasons`, `values`
- `edge_questions`: `edges`, `new_edges`, `talkers`, `names`
- `edges_in_time`: `edges_in_time`, which the map and the comparison page draw; `first_and_last_seen` over all recorded time;
  `denials` by drop reason
- `record_questions`: `Ledger`, `Drift`, `Controls`, `Evaluations`, `Configuration`, `ConfigurationCoverage`,
  `UnseenObjects`, `AccessLog`, `SizeOfLake`
- `replay_questions`: `DistinctEdges` and `connections`, over which policies are replayed
- `report_questions`: `ReportsMade`, `ReportFiles`
- `sql_question`: `OwnSql`, SQL written by a user

A new question over flows is a function that returns a `FlowQuestion` (`flow_table`: SQL over the relation MATCHING) or a
`RollupQuestion` (`rollup_table`: SQL over `visible_<rollup>`); one over other records is a class with `subject` and `answer`.
tests/access/test_doors.py fails until the question is tested for every kind of principal, in doors_about_flows.py or
doors_about_records.py beside it. Limits are part of the question:
`newest(wanted, limits=Limits(rows=50))`. Drawing and printing do not belong here.
"""

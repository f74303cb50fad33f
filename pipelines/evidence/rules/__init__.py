"""Alert rules in the shape of Prometheus rule files: reading, evaluating and replaying them, and sending their alerts.

`model` reads and checks files, `calls` and `questions` hold the built-in expressions, `evaluating` evaluates a rule over a window,
`states` turns evaluations into pending, firing and resolved alerts, `running` does all of it once, `sending` tells others, `replaying`
shows when a rule would have fired.
"""

"""Alert rules in the shape of Prometheus rule files: reading, evaluating and replaying them, and sending their alerts.

`reading` reads and checks files into the rules of `model`, `calls` and `expressions` hold the built-in expressions, `evaluating` evaluates
a rule over a window, `reserved` sets the labels that others act on, `states` turns evaluations into pending, firing and resolved alerts,
`running` does all of it once, `sending` tells others, `failing` tells owners what is wrong with their rules, `replaying` shows when a rule
would have fired.
"""

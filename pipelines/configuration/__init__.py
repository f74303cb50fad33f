"""Configuration history: what a cluster's API server or a folder of manifests holds becomes versions in the lake.

kinds       what is read, and what of it is kept
recording   a state that was seen, against the versions in force: what began and what ended
snapshot    one look at a cluster's API server
watch       the same kept up to date by events
manifests   one look at a folder of manifests
looking     one look, at whichever of the two a cluster has
audit_log   who changed what, from the API server's audit log
manifest_yaml, differences   what was in force at a time, as YAML; what differs between two times
care        few files instead of many

Judging a configuration (blueprints, drift, policies' verdicts) is other packages' work.
"""

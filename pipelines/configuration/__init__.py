"""Configuration history: records the objects of a cluster's API server, or of a folder of manifests, as versions in the lake.

kinds       the kinds of objects that are read, and the part of each that is recorded
recording   compares an observed state with the versions in force and writes what began and what ended
snapshot    reads a cluster's API server once
watch       keeps the history of a cluster up to date from watch events
manifests   reads a folder of manifests once
looking     takes one snapshot from whichever source a cluster is configured with
audit_log   finds who changed what in the API server's audit log
manifest_yaml, differences   the configuration at a given time as YAML; the differences between two times
care        compacts the version tables

Code that judges a configuration (blueprints, drift, policy verdicts) belongs in other packages.
"""

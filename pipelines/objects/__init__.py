"""Kubernetes objects as data: read from YAML, identified by one key, normalised to one canonical form, compared by one diff.

names            what identifies an object in its cluster, and which names an API server accepts
yaml_scalars     the value of a plain YAML scalar as Kubernetes reads it
yaml_nodes       converts YAML text to JSON values, with limits on the cost of a document
kubernetes_yaml  splits YAML or JSON text into documents, as kubectl does
canonical        the content of an object: without the server's fields, with the defaults of its kind
compare          where two objects differ in meaning

This package does no I/O. Reading, recording and judging objects belongs in the packages above it.
"""

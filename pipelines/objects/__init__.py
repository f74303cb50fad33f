"""Kubernetes objects as data: read from YAML, named by one key, brought into one canonical form, and compared by one diff.

names            what identifies an object in its cluster, and which names an API server takes
yaml_scalars     what a plain YAML scalar means to Kubernetes' readers
yaml_nodes       YAML text to JSON values, with bounds on what a document costs
kubernetes_yaml  documents of YAML or JSON text, read as kubectl reads them
canonical        what an object says: without the server's fields, with the defaults of its kind
compare          where two objects differ in meaning

The room does no I/O. What is read from where, what is recorded and what is judged belongs to the rooms above it.
"""

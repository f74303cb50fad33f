"""Blueprints: the network configuration a platform team wants for its fleet, how it is published, and drift from it.

Belongs here: the model of a blueprint, templates, rendering, drift, audit controls, publishing.
Does not belong here: reading clusters (`pipelines.cluster_access`), and deciding which traffic a policy allows.
"""

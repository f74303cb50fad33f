"""How the platform team wants the fleet's network to stand: blueprints, publishing them, and what has drifted from them.

Belongs here: the model of a blueprint, templates, rendering, comparison of objects, drift, audit controls, publishing.
Does not belong here: reading clusters (`pipelines.cluster_access`), and what a policy lets through.
"""

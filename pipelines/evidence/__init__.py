"""Findings, and alerts about pipelines that fail or are late."""

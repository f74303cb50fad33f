"""Readers of what the lake records beside flows: versions of configuration, coverage, posture and saved views."""

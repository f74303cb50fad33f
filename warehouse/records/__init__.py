"""Readers of what the lake records besides flows: configuration versions, coverage, posture and saved views."""

"""Edges between workloads: names, comparison of two windows, the map and its layout."""

"""Findings and drift as OpenReports (openreports.io/v1alpha1) in the clusters that they are about.

`results` says what one finding or drift is in a report, `reports` makes the reports of a cluster, `publishing` writes them.
"""

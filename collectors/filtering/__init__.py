"""Hubble's filters: which flows a FlowFilter matches, as Cilium's own code decides. No I/O."""

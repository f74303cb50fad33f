"""Central editing on the page of policies: a policy is edited for many clusters, planned, published to canaries, then to the rest."""

"""A simulated Hubble fleet: nodes that speak the real wire contract, with seeded traffic, for tests and rehearsals."""

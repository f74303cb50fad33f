"""A simulated Hubble fleet: nodes that serve the real gRPC API, with seeded traffic, for tests and rehearsals."""

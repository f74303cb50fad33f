"""Encoded Hubble messages to the columns of `flows` and back, without loss; secrets are taken out here."""

"""Converts encoded Hubble messages to the columns of `flows` and back, without loss; secrets are removed here."""

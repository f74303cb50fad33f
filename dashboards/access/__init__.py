"""Who is looking: sign-in, identities, and who may download a file that a page made."""

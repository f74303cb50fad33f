"""How several collectors share a fleet: what is shared, who is alive, and who collects what. Storing flows does not belong here."""

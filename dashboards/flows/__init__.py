"""The table of flows and the panel of one flow."""

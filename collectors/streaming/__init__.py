"""Live collection: streams of Hubble flows, de-duplication, the completeness ledger, the spool and publishing to the lake."""

"""Hubble's wire contract as `.proto` files of ours, and the modules `make proto` generates from them."""

"""Putting the product in place on a host, and taking it away: files, accounts and units, step by step."""

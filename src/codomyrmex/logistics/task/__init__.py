"""Durable task rows: their states, retry policy, lease, and the SQL that moves them."""

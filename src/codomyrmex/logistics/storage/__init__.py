"""The state of a project: one database file behind one port."""

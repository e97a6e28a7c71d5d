"""What `codomyrmex init` writes: a workflow of three steps and the actions that it calls.

The files are copied as they are; `.j2` keeps the Python one from being taken for a module of ours.
"""

"""Workflows of other tools read into ours: one module for each format, pure from text to tree.

Each importer gives an `Imported`: a tree as a person would write it, and the list of what could not be
carried over. What cannot be read at all is a `ValidationError` with every fault's place.
"""

"""A project that fits on a page: its file, and a schedule that nobody can shorten."""

from __future__ import annotations

TEXT = """
jobs (incl. supersource/sink ):  6
PRECEDENCE RELATIONS:
jobnr.    #modes  #successors   successors
   1        1          2           2   3
   2        1          1           4
   3        1          1           5
   4        1          1           6
   5        1          1           6
   6        1          0
************
REQUESTS/DURATIONS:
jobnr. mode duration  R 1  R 2
------------------------------
  1      1     0       0    0
  2      1     3       2    0
  3      1     2       1    1
  4      1     1       0    2
  5      1     4       2    1
  6      1     0       0    0
************
RESOURCEAVAILABILITIES:
  R 1  R 2
   3    2
************
"""
STARTS = {1: 0, 2: 0, 3: 0, 4: 7, 5: 3, 6: 8}
ENDS = {1: 0, 2: 3, 3: 2, 4: 8, 5: 7, 6: 8}

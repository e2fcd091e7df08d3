"""Ways to tune, one file each: its settings, ``attach``, ``count``, ``save``, and ``merge`` where the algebra allows.

Settings stand at module level so that a recipe can be checked without torch, which is imported inside functions.
"""

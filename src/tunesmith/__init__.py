"""Adapt language models to your own work, and know what it brought.

The public names are below; everything that needs torch is imported when it is first used.
"""

__version__ = "0.1.0"

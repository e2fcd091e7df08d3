"""What a run learned, for other programs: merged models that were verified, and who can load an adapter as it is.

``sources.py`` finds adapters; ``merging.py`` writes a merged model and ``replay.py`` proves that it answers the same;
``consumers.py`` knows what other programs can load.
"""

"""Layers of a model as few passes over memory: the same numbers as transformers' own layers, sooner.

``stack.py`` knows which models it can take over; ``layer.py`` is one decoder layer, forward and backward;
``encoder_decoder.py``, ``t5_reading.py`` and ``sublayers.py`` are the same for T5, and ``biased.py`` its attention;
``projection.py`` makes one matrix product of the linear layers that read the same input, with what LoRA adds to them;
``kernels.py`` has everything between the products, in C++ where a compiler is at hand and in torch elsewhere.
"""

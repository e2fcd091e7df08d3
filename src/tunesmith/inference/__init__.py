"""Answers: generated, ranked among choices, with and without worked examples before the prompt."""

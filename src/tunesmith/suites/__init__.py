"""Public benchmark suites through lm-evaluation-harness: GLUE, SuperGLUE, MMLU and BIG-bench Hard.

Prompts, metrics and the order of the items are the harness's own; rows come from the hub or from local files.
"""

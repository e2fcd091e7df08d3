"""What the process tells the libraries below before they are loaded."""

import os
import warnings


def calm() -> None:
    """No parallel tokenizer threads, no advice from libraries between our own lines, no telemetry."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # peft 0.21 reads an attribute that transformers 5.23 has renamed; nothing here depends on it.
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)

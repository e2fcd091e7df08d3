"""Base models: where their weights come from, how they are converted, loaded, and made tiny for tests."""

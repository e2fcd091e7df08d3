"""From a run folder to a page that says what the run brought: reads files, needs no model."""

"""What tuning made a model forget: what is asked, what changed, and the measures of tasks in turn. Needs no torch."""

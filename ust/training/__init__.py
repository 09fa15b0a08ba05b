"""Training of systems: recipes, schedules, cross-validation and resuming."""

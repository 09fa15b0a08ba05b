"""Training of systems: trainers, schedules, cross-validation and resuming."""

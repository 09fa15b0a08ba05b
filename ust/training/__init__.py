"""Training: the recipes, their loops and schedules, and what a training cut short goes on from."""

"""Custom taggers: training on the user's own classes and clips, evaluation, and active learning."""

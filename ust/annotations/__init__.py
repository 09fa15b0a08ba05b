"""The taxonomy, annotations, label aggregation rules and inter-annotator agreement."""

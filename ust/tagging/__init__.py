"""Inference with trained systems: tagging recordings, output formats, and export."""

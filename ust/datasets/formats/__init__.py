"""Formats of imported labels; each module reads one or several."""

"""The commands for a tagger of somebody's own sounds."""

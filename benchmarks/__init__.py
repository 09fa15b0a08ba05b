"""Measurements of speed, scale and settings; `make bench` compares the speed with common libraries."""

"""Shared utilities: files, tables, configuration, random streams, PyTorch device setup and faster layers."""

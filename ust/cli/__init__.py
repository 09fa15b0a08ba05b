"""The program `ust`: its commands, their options, logging and error reporting."""

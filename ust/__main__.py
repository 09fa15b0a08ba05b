"""`python -m ust` is the program `ust`."""

from ust.cli.program import main

main()

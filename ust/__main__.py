"""`python -m ust` is the program `ust`."""

from ust.commands.program import main

main()

"""The program `ust`: what its commands take, and how they speak on the terminal."""

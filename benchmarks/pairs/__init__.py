"""The pairs: this project's way of doing something, and a peer's."""

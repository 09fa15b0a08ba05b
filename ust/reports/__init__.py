"""What people look at: the page of figures, mistakes and hits, and the pictures on it."""

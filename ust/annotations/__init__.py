"""What people said: the taxonomy, annotations, the rules that make labels of them, and how far they agree."""

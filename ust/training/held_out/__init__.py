"""What networks say of train clips that they have not heard, and what it decides."""

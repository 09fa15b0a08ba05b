"""The forms that labels come in: a module each."""

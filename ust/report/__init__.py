"""The report page: what the systems' figures are, and what they got right and wrong, to see and to hear."""

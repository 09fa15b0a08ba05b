"""A tagger of somebody's own sounds: trained on their clips, and on what they say of more of them."""

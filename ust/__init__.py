"""Urban sound tagging: the library that the pipeline's stages share."""

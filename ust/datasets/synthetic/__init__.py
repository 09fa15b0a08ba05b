"""The data source ``synthetic``: a synthesised city in the SONYC-UST v1 layout, with simulated annotators."""

"""Tagging archives of recordings: shards of work, Parquet, queries; on one machine or on a Dask cluster."""

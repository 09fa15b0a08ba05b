"""Tagging archives of recordings in shards on one machine or a cluster, to Parquet; queries over the tags."""

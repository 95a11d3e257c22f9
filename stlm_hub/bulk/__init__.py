"""Many photographs on one machine or a cluster: one Parquet row for each, even if workers end."""

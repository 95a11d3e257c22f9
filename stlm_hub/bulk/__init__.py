"""Many photographs, on one machine or on a cluster: one Parquet row each, whatever happens to the workers."""

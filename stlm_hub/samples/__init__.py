"""Sample photographs that anyone may use: crops of CC0 photographs with painted defects."""

"""A model in PyTorch -> a folder that `runtime/` judges with, and the proof that both say the same."""

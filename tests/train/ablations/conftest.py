"""The fixtures of `small_training`."""

from small_training import batch, make_network, photographs, run_folder, starting_weights, textures

__all__ = ["batch", "make_network", "photographs", "run_folder", "starting_weights", "textures"]

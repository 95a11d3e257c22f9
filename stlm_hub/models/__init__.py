"""Pure networks: tensors in, tensors out."""

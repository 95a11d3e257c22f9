"""The network: pure `nn.Module`s, tensors in, tensors out. Imports nothing of ours but `config`."""

"""The weights that training starts from: where they come from and in what form."""

"""A model as a folder: its files, its card, its place on the Hub and in the zoo."""

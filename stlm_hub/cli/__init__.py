"""The command `stlm`."""

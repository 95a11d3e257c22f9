"""Files underneath everything else: where they are kept, how they are written, what tells them apart."""

"""STLM: two streams, one decoder, one aggregation head."""

"""Pretrained networks whose features a patch memory compares."""

"""Measurements that anyone can repeat: each program prints a table and writes JSON."""

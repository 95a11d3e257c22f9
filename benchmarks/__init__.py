"""Measurements that anyone can repeat. Each program prints a table and writes a JSON file."""

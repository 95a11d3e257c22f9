"""Evaluation: anomaly maps and masks in, the field's figures and plots out."""

"""Evaluation: anomaly maps and masks -> metrics, plots and a report."""

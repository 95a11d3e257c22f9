"""The paper's ablations and others: what each changes, and their trainings."""

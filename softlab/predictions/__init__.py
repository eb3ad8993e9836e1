"""Predictions of models that softlab doesn't run: read from files, checked, and turned into logits or soft labels."""

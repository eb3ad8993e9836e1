"""What the fields of a sample mean: how they are decoded, augmented and made inputs of a model.

A modality is a folder here, or a module of the user's own, that exposes `MODALITY`; `modality.py` says what that has.
"""

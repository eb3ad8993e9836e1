"""Sign stores, and check who signed one before any of it is used. Signatures have the OpenSSF Model Signing format."""

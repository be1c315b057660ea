"""Network decoders with a normal code, and their approximate posteriors."""

"""How models are found and sampled: algorithms that know capabilities, never families."""

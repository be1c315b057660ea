"""How models are drawn from p(m)."""

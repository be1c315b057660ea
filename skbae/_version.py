"""The version and the documentation's address, in a module that every layer can read."""

__version__ = "0.1.0"
# Address of the documentation's root, without a slash at its end; empty where it is at none.
DOCUMENTATION = ""

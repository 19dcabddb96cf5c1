"""Checkers by subject; :mod:`sim.checkers` has the list of all invariants and runs them."""

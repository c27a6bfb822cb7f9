"""Measures of samples and of agents."""

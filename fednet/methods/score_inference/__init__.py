"""Federated inference of score-based diffusion models."""

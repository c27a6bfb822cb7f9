"""A federated classifier beside a diffusion detector of what it has never seen."""

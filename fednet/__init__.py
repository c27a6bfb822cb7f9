"""What is computed: data, models, diffusion, metrics and the federated methods. Knows no network."""

__version__ = "0.1.0"

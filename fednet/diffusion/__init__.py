"""Score-based diffusion: SDEs, training, samplers."""

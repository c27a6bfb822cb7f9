"""A federated balancing GAN: a generator that draws rare classes as well as common ones."""

"""What the methods share: base classes of sites and jobs, checks of what arrives, checkpoints, report parts."""

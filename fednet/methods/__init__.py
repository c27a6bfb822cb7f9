"""The federated methods, one folder each."""

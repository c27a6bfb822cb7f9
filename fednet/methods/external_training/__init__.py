"""The method `external-training`: federated averaging of a model that users' own scripts train, see `fednet.join`."""

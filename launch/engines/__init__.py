"""Engines: where the processes of nodes are started, which are `fednet node --spec` on every engine."""

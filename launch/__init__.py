"""How a cluster comes up: configuration, plan, supervision, command line, report."""

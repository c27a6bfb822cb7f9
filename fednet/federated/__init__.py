"""Training together: how contributions become one model. Knows no network; `nodes.rounds` carries the parts."""

"""Rules: how the scores of several sites, or their updates of a model, become one."""

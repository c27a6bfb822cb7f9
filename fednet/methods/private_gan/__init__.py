"""A generative adversarial network of several sites, private for every picture or for every site."""

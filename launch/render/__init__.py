"""Engines that are only rendered: files by which others' programs (compose, Kubernetes) start and keep the nodes."""

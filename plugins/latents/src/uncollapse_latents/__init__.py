"""Flows, hierarchies of latents and learned priors: each folder is named for what it holds."""

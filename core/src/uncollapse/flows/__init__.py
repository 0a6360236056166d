"""Flows on zuko's lazy transforms."""

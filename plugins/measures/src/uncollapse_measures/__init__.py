"""Measures of codes: probes, discrepancies between distributions, and estimators that few runs need."""

"""The demo: the same strong decoder on real digits, without a remedy and with every installed one."""

from .run import comparison, demo_pipelines, run_demo

__all__ = ["comparison", "demo_pipelines", "run_demo"]

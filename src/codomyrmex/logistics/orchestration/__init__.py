"""Orchestration of projects; everything lives in `codomyrmex.logistics.orchestration.project`."""

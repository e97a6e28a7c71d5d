"""What `codomyrmex init` writes: a workflow of three steps and the actions that it calls."""

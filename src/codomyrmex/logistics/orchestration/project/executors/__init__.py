"""Ways to run one attempt: a thread, a coroutine, a worker process; one port in `attempt.py`."""

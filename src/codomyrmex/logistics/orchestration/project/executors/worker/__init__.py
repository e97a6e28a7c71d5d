"""The process worker: everything here is standard library only and runs on Python 3.9 and later."""

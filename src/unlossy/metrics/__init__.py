"""Numbers to publish: (restored, clean) in, rows out. The protocol is in `suite.py`."""

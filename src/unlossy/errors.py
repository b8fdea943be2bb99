"""The one exception that a user's mistake raises, and that the command line prints without a traceback."""


class UserError(ValueError):
    """What is wrong, where, and what to do instead, in one sentence. Exit code 2 at every door."""

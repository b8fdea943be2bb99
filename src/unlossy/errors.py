"""The one exception of a user's mistake, which the command line prints without a traceback."""


class UserError(ValueError):
    """What is wrong, where, and what to do instead, in one sentence. Exit code 2 at every door."""

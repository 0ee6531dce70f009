"""Errors shown to a user: one clear line that says what is wrong, where, and what to do."""


class UserError(Exception):
    """Something the user can mend. The command line prints the message alone and exits with 1."""

    exit_code = 1


class UsageError(UserError):
    """The command itself is wrong (a flag, a name). The command line exits with 2."""

    exit_code = 2

"""The one error that a person can mend."""


class LxError(Exception):
    """Bad input or configuration: what is wrong, where, and what to do about it.

    The command line prints the message alone, without a traceback, and exits with code 2.
    """

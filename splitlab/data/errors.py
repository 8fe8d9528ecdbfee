"""The error that every data set raises."""


class DataError(ValueError):
    """A data set, or a request made of one, that cannot be used; the message says what to do."""

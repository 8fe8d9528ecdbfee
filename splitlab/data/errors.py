"""The error that every data set raises."""


class DataError(ValueError):
    """A data set or a request for data that cannot be used; the message says what to do."""

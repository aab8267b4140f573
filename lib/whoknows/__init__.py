"""Can a language model tell when an answer is wrong, its own or another model's?"""

__version__ = "0.1.0"


class WhoknowsError(ValueError):
    """A mistake that the user can mend; its message is one sentence that says where it is and how to mend it."""

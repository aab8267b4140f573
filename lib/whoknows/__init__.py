"""Can a language model tell when an answer is wrong, its own or another model's?"""

import logging

__version__ = "0.1.0"

# PEFT imports it whether or not weights are quantised, and it warns of kernels that nothing here uses; what fails
# raises an error too.
logging.getLogger("bitsandbytes").setLevel(logging.CRITICAL)


class WhoknowsError(ValueError):
    """A mistake that the user can mend; its message is one sentence that says where it is and how to mend it."""

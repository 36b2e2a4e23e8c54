"""The command line of secondread."""

import gc

# Starting makes a hundred thousand objects that stay and hardly any garbage; Python's
# usual threshold of 700 would look through them again and again, a twelfth of the time.
gc.set_threshold(50_000, 10, 10)

"""The embedded world: text, tokenizer, base model and test items that need no network.

``lexicon`` reads the language files, ``sentences`` turns meanings into sentences of a language,
``corpora`` and ``items`` are what the harness asks for, ``tokenizer`` and ``pretrain`` make the
base model that is shipped in ``base/``. None of the first four imports torch or transformers.
"""

NOTE = (
    "The embedded world's model has about 1M parameters: it checks the machinery and the "
    "composition, and is no verdict on models of 8B parameters."
)
"""Said wherever scores of this world are shown."""

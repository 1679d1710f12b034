"""The embedded world: text, tokenizer, base model and test items that need no network.

``lexicon`` reads the language files, ``sentences`` turns meanings into sentences of a language,
``corpora`` and ``items`` are what the harness asks for, ``tokenizer`` and ``pretrain`` make the
base model that is shipped in ``base/``. None of the first four imports torch or transformers.
"""

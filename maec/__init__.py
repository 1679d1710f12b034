"""MAEC: extract an ability from one model and combine it with languages from others.

Chen et al., "Extracting and Combining Abilities For Building Multi-lingual Ability-enhanced
Large Language Models", EMNLP 2025 (arXiv 2410.07825).  Checkpoints in, checkpoint out:

    neurons     key neurons N_A: the parameters that training on an ability moves most
    train       continual pre-training: all parameters, LoRA, or key neurons only
    extract     ability weights R(A), kept as a sparse pack
    combine     language weights, similarity, selection, and the sum that is the result
    arithmetic  those sums on whatever device: compiled loops (kernels) or torch
    recipe      every symbol of the method as one validated object
    language    language codes
    merge       a recipe becomes a checkpoint
    card        the README.md of a merged model and of a pack
    inspect     what a mask, a pack or a merged model holds
    hub         models by hub id
    share       packs, masks and merged models on a hub
    checkpoint  safetensors folders: open, check, stream, write
    compatible  which models fit a base, and how they are seen in its shapes
    adapter     LoRA adapters as the models they make
    tokenizer   what two tokenizers have in common
    vocabulary  models with more tokens than their base
    pack        ability packs on disk
    folder      folders that appear complete or not at all
    errors      mistakes the user can mend

Nothing is imported here, so that `maec --help` and the checks of paths and recipes need no torch.
"""

__version__ = "0.1.0"

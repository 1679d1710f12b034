"""The mistakes: what is typed, the files beside it, and the one line that answers.

In an answer ``…`` stands for any text, ``{here}`` for the folder. Its start, the command's name and
in the first two tables the file's, is left out.
"""

from typing import NamedTuple

from tests.bad_input.world import MODEL, RELEASE, TRAINED, matrix, recipe

NAN, INF = float("nan"), float("inf")
SETTINGS = {"steps": 1, "learning_rate": 0.001}


class Mistake(NamedTuple):
    """What is typed and what is said; files that lie there, and variables that name a place."""

    typed: str
    said: str
    files: dict[str, str | bytes] = {}  # noqa: RUF012
    places: dict[str, str] = {}  # noqa: RUF012


def with_setting(key: str, value: object) -> dict:
    return {"training": {"ability": {**SETTINGS, key: value}}}


def of_method(name: str, **parameters: object) -> dict:
    return {**TRAINED, "methods": [{"name": name, **parameters}]}


def of_task(**settings: object) -> dict:
    return {"tasks": {"math": settings}}


HELP = "; `…` says what is allowed"
WHOLE = "must be a valid integer…"
TRUTH = "must be a number; YAML reads yes, no, on and off as true and false"
NO_MODEL = "no such folder; give one that holds a checkpoint, or a hub id: org/name…"
KIN = "give models trained from one base"
EXISTS = "exists already; name a new folder, or remove this one first"

MATRICES = {
    "no-list": ({"languages": "te"}, "languages: found 'te'; must be a valid list"),
    "mapping-for-list": ({"languages": {"te": 1}}, "languages: must be a valid list"),
    "number-for-text": ({"languages": ["te", 5]}, "languages[1]: found 5; must be a valid string"),
    "norwegian": (
        {"languages": [False]},
        "languages[0]: found False; must be text, in quotes; YAML reads yes, no, on and off as…",
    ),
    "no-language": (
        {"languages": ["tel"]},
        "languages[0]: unknown language 'tel'; did you mean 'te'? (known: …; `harness "
        "add-language tel` writes the file of a new one)",
    ),
    "pivot": ({"pivot": "xx"}, "pivot: unknown language 'xx' (known: bn, en, es, te, zh; …)"),
    "pivot-as-target": (
        {"pivot": "te"},
        "languages: 'te' is the pivot…; leave it out of languages",
    ),
    "no-name": ({"name": None}, "name: found None; must be a valid string"),
    "name": ({"name": "My Matrix"}, "name: found 'My Matrix'; must match pattern '…'"),
    "key": (
        {"langauges": ["te"]},
        "unknown key 'langauges'; did you mean 'languages'? (allowed: name, base, …)",
    ),
    "key-below": (
        {"corpus_fraction": {"languages": 0.5}},
        "unknown key 'corpus_fraction.languages'; did you mean 'language'? (allowed: …)",
    ),
    "key-of-a-size": (
        {"base": {"hidden_size": 64, "layers": 2}},
        "unknown key 'base.layers' (allowed: hidden_size, …)",
    ),
    "key-of-a-source": (
        {"corpora": {"general": {"te": {"dataset": "org/te", "subset": "x"}}}},
        "unknown key 'corpora.general.te.subset' (allowed: dataset, …)",
    ),
    "no-seeds": ({"seeds": []}, "seeds: found []; must have at least 1 item"),
    "seed": ({"seeds": [1.5]}, f"seeds[0]: found 1.5; {WHOLE}"),
    "seed-twice": ({"seeds": [1, 1]}, "seeds: '1' stands there twice"),
    "true-for-seed": ({"seeds": [True]}, f"seeds: found [True]; {TRUTH}"),
    "true-for-items": ({"items": True}, f"items: found True; {TRUTH}"),
    "no-items": ({"items": 0}, "items: found 0; must be greater than or equal to 1"),
    "words-for-items": ({"items": "many"}, f"items: found 'many'; {WHOLE}"),
    "ability": (
        {"abilities": ["maths"]},
        "abilities[0] 'maths': unknown ability; did you mean 'math'? (allowed: …)",
    ),
    "no-methods": ({"methods": []}, "methods: found []; must have at least 1 item"),
    "method": (
        {"methods": ["mace"]},
        "methods[0]: unknown method 'mace'; did you mean 'maec'? (known: …; a new one is a file…)",
    ),
    "method-without-name": ({"methods": [{"label": "x"}]}, "methods[0].name: is missing"),
    "number-for-method": ({"methods": [5]}, "methods[0]: found 5; must be a mapping of keys…"),
    "parameter": (
        of_method("maec", gama=1),
        "methods[0]: method 'maec' has no parameter 'gama'; did you mean 'gamma'? (allowed: …)",
    ),
    "words-for-share": (
        of_method("maec", k1="lots"),
        "methods[0]: k1 of method 'maec': found 'lots'; must be a valid number…",
    ),
    "share-above-1": (
        of_method("maec", k1=1.5),
        "methods[0]: k1 of method 'maec': found 1.5; must be less than or equal to 1",
    ),
    "weight-nan": (
        of_method("maec", alpha=NAN),
        "methods[0]: alpha…: found nan; must be a finite…",
    ),
    "weight-inf": (
        of_method("maec", gamma=INF),
        "methods[0]: gamma…: found inf; must be a finite…",
    ),
    "true-for-share": (of_method("maec", k1=True), f"methods[0]: k1…: found True; {TRUTH}"),
    "scope": (
        of_method("base", scope="each"),
        "methods[0].scope: found 'each'; must be 'all', 'language' or 'everything'",
    ),
    "ability-of-method": (
        of_method("base", abilities={"science": {}}),
        "methods[0]: abilities: 'science' is not an ability of this matrix (math)",
    ),
    "no-documents": (
        {"methods": ["f-cpt-a"]},
        "documents: 'ability' is missing, which method 'f-cpt-a' needs",
    ),
    "no-training": (
        {**TRAINED, "training": {}},
        "training: there are no settings for the role 'ability', which method 'f-cpt-a' needs;…",
    ),
    "role": (
        {"training": {"abilty": SETTINGS}},
        "training: unknown role 'abilty'; did you mean 'ability'? (allowed: …)",
    ),
    "no-rate": (
        {"training": {"ability": {"steps": 1}}},
        "training.ability.learning_rate: is missing",
    ),
    "rate-below-0": (
        with_setting("learning_rate", -1),
        "training.ability.learning_rate: found -1; must be greater than or equal to 0",
    ),
    "rate-nan": (
        with_setting("learning_rate", NAN),
        "….learning_rate: found nan; must be a finite…",
    ),
    "rate-inf": (
        with_setting("learning_rate", INF),
        "….learning_rate: found inf; must be a finite…",
    ),
    "rate-no-number": (
        with_setting("learning_rate", "1e-3x"),
        "training.ability.learning_rate: found '1e-3x'; must be a valid number…",
    ),
    "true-for-steps": (with_setting("steps", True), f"training.ability.steps: found True; {TRUTH}"),
    "micro-batch": (
        with_setting("micro_batch_size", 5),
        "training.ability: micro_batch_size: 5 does not divide batch_size, 16",
    ),
    "engine": ({"engine": "vllm"}, "engine: found 'vllm'; must be a mapping of keys to values"),
    "short-context": (
        {"engine": {"max_model_len": 4}},
        "engine.max_model_len: found 4; must be greater than or equal to 16",
    ),
    "executor": ({"executor": "slurm"}, "executor.kind: found 'slurm'; must be 'local' or 'ray'"),
    "executor-of-another-kind": (
        {"executor": {"address": "auto"}},
        "executor: address and artifacts are for kind 'ray'; add it, or drop them",
    ),
    "executor-key": (
        {"executor": {"kind": "ray", "artefacts": "s3://bucket"}},
        "unknown key 'executor.artefacts'; did you mean 'artifacts'? (allowed: …)",
    ),
    "cpus": (
        {"executor": {"kind": "ray", "cpus": 0}},
        "executor.cpus: found 0; must be greater than or equal to 1",
    ),
    "engine-split": (
        {"base": "base", "engine": {"tensor_parallel_size": 3}},
        "engine.tensor_parallel_size: found 3; allowed: 1, 2, 4, which divide the base's 4 …",
    ),
    "engine-split-at-a-point": (
        {"base": "base", "variants": [{"label": "a", "engine": {"tensor_parallel_size": 3}}]},
        "variants[0].engine.tensor_parallel_size: found 3; allowed: 1, 2, 4, which divide …",
    ),
    "engine-stages": (
        {"base": "base", "engine": {"pipeline_parallel_size": 3}},
        "engine.pipeline_parallel_size: found 3; allowed: 1 to 2, the base's layers",
    ),
    "engine-no-parts": (
        {"engine": {"tensor_parallel_size": 0}},
        "engine.tensor_parallel_size: found 0; must be greater than or equal to 1",
    ),
    "engine-of-another-kind": (
        {"engine": {"kind": "transformers", "tensor_parallel_size": 2}},
        "engine.tensor_parallel_size: found 2, which only kind 'vllm' has; leave it out",
    ),
    "quantisation": (
        {"engine": {"dtype": "bfloat16", "quantization": "awq"}},
        "engine.quantization: found 'awq'; must be 'fp8_per_tensor', 'fp8_per_block' or 'fp8_per…",
    ),
    "quantisation-of-32-bits": (
        {"engine": {"quantization": "fp8_per_tensor"}},
        "engine.quantization: found 'fp8_per_tensor', which is for models in 16 bits; add dtype: …",
    ),
    "key-of-a-points-engine": (
        {"variants": [{"label": "a", "engine": {"dtyp": "float16"}}]},
        "unknown key 'variants[0].engine.dtyp'; did you mean 'dtype'? (allowed: kind, …)",
    ),
    "engines-at-a-point": (
        {"variants": [{"label": "a", "engine": {"data_parallel_size": 2}}]},
        "variants[0].engine.data_parallel_size: the same engines serve all points, …; give it…",
    ),
    "arithmetic": ({"engine": {"dtype": "int8"}}, "engine.dtype: found 'int8'; must be 'float32'…"),
    "code-of-all": (
        {"base": "org/base", "engine": {"trust_remote_code": True}},
        "engine.trust_remote_code: name the models that may run their own code: [org/base]; …",
    ),
    "number-for-code": (
        {"engine": {"trust_remote_code": [5]}},
        "engine.trust_remote_code[0]: found 5; must be a valid string",
    ),
    "code-of-none": (
        {"engine": {"trust_remote_code": True}},
        "engine.trust_remote_code: name the models that may run their own code: []; false stands…",
    ),
    "code-of-another": (
        {
            "base": "org/base",
            "checkpoints": {"languages": {"te": "org/te"}},
            "engine": {"trust_remote_code": ["org/bse"]},
        },
        "engine.trust_remote_code: 'org/bse' is not a model of this matrix; did you mean "
        "'org/base'? (allowed: org/base, org/te)",
    ),
    "code-of-the-embedded": (
        {"engine": {"trust_remote_code": ["embedded"]}},
        "engine.trust_remote_code: 'embedded' is not a model of this matrix (allowed: none)",
    ),
    "code-twice": (
        {"base": "org/base", "engine": {"trust_remote_code": ["org/base", "org/base"]}},
        "engine.trust_remote_code: 'org/base' stands there twice",
    ),
    "code": (
        {"base": "own-code"},
        "base: {here}/own-code/config.json: auto_map: 'modeling_x.X' is code that comes with the "
        "model, and is not run; read it, and add 'own-code' to engine.trust_remote_code, or …",
    ),
    "code-of-a-checkpoint": (
        {
            "base": "base",
            "checkpoints": {"languages": {"te": "own-code"}},
            "engine": {"trust_remote_code": ["base"]},
        },
        "checkpoints.languages.te: {here}/own-code/config.json: auto_map: … add 'own-code' to …",
    ),
    "fraction": (
        {"corpus_fraction": {"language": 0}},
        "….language: found 0; must be greater than 0",
    ),
    "variants-twice": ({"variants": [{"label": "a"}] * 2}, "variants: 'a' stands there twice"),
    "heads": (
        {"variants": [{"label": "a", "base": {"hidden_size": 33}}]},
        "variants[0].base: …hidden_size must be 32 × num_attention_heads or a multiple of that",
    ),
    "number-for-base": ({"base": 5}, "base: found 5; must be a valid string"),
    "no-base": ({"base": "gone"}, f"base: {{here}}/gone: {NO_MODEL}"),
    "file-for-base": ({"base": "base/model.safetensors"}, f"base: {{here}}/base/…: {NO_MODEL}"),
    "empty-base": (
        {"base": "empty"},
        "base: {here}/empty: no model.safetensors…; give a checkpoint…",
    ),
    "base-without-shard": (
        {"base": "shards"},
        "base: {here}/shards/model.safetensors.index.json: names the shard model-00002-of-…, which "
        "is not there; fetch it",
    ),
    "adapter-for-base": (
        {"base": "lora"},
        "base: {here}/lora: an adapter, where a whole checkpoint…",
    ),
    "broken-config": ({"base": "no-json"}, "base: {here}/no-json/config.json: not valid JSON: …"),
    "tasks": ({"tasks": "math"}, "tasks: found 'math'; must be a mapping of keys to values"),
    "task-of-nothing": (
        {"tasks": {"maths": {}}},
        "tasks: 'maths' is not among abilities (math); add…",
    ),
    "task": (
        of_task(like="mgsm_natve_cot"),
        "tasks.math: lm-eval has no task mgsm_natve_cot_en; did you mean mgsm_native_cot_en?; …",
    ),
    "one-file-for-all": (
        of_task(files="q.tsv"),
        "tasks.math.files: found 'q.tsv'; a path with {language} in it, one file a language",
    ),
    "no-questions": (
        of_task(files="q_{language}.tsv"),
        "tasks.math.files: there is no file q_en.tsv for language 'en'; correct the path, or…",
    ),
    "two-sources": (
        of_task(files="q_{language}.tsv", dataset="org/questions"),
        "tasks.math: either files or dataset: questions have one source; leave one out",
    ),
    "dev-files-alone": (
        of_task(dev_files="q_{language}.tsv"),
        "tasks.math: dev_files stands beside files; name those too, or a dev_split",
    ),
    "fewer-than-no-shots": (of_task(num_fewshot=-1), "tasks.math.num_fewshot: found -1; must be…"),
    "filter": (
        of_task(filter="best"),
        "tasks.math.filter: 'best' is no answer filter of lm-eval's task … (allowed: …)",
    ),
    "no-dev-questions": (
        {"split": "dev", **of_task()},
        "tasks.math: there are no dev questions; name their files under dev_files or …",
    ),
    "text-format": (
        {"corpora": {"general": {"te": {"files": "a.doc"}}}},
        "corpora.general.te: files: the name ends in none of .txt, .jsonl, .parquet",
    ),
    "text-of-two": (
        {"corpora": {"general": {"te": {"dataset": "org/te", "files": "a.txt"}}}},
        "corpora.general.te: give one of the keys 'dataset' and 'files'",
    ),
    "text-of-others": (
        {"corpora": {"general": {"fr": {"dataset": "org/fr"}}}},
        "corpora.general: 'fr' is not a language of this matrix (allowed: en, te, *)",
    ),
    "tokens": ({"tokens": {"general": "1e9x"}}, f"tokens.general: found '1e9x'; {WHOLE}"),
    "some-documents": ({"documents": {"general": 5}}, "documents.pivot: is missing"),
    "checkpoint": (
        {"base": "base", "checkpoints": {"languages": {"te": "gone"}}},
        f"checkpoints.languages.te: {{here}}/gone: {NO_MODEL}",
    ),
    "held-out-text": (
        {"base": "base", "forgetting": {}},
        "forgetting: text_files is missing, held-out text for this base; name the files, or set…",
    ),
}
"""``harness plan m.yaml``: what is changed in a good matrix, and what is said of m.yaml."""

RECIPES = {
    "key": ({"abilites": []}, "unknown key 'abilites'; did you mean 'abilities'? (allowed: …)"),
    "key-below": (
        {"languages": [{"model": "es", "weight": 1}]},
        "unknown key 'languages[0].weight' (allowed: model, mu, language)",
    ),
    "no-list": ({"languages": "es"}, "languages: found 'es'; must be a valid list"),
    "text-for-mapping": ({"languages": ["es"]}, "languages[0]: found 'es'; must be a mapping…"),
    "nothing": ({"languages": [], "abilities": []}, "…: nothing to merge; give 'languages', …"),
    "no-model": ({"languages": [{"mu": 1}]}, "languages[0].model: is missing"),
    "weight-nan": (
        {"languages": [{"model": "es", "mu": NAN}]},
        "…mu: found nan; must be a finite…",
    ),
    "weight-true": ({"languages": [{"model": "es", "mu": True}]}, f"…mu: found True; {TRUTH}"),
    "weight-words": ({"lambda": "big"}, "lambda: found 'big'; must be a valid number…"),
    "language": (
        {"languages": [{"model": "es", "language": "spanish"}]},
        "languages[0].language: found 'spanish'; allowed: a BCP 47 code, such as es…",
    ),
    "norwegian": (
        {"languages": [{"model": "es", "language": False}]},
        "languages[0].language: found False; write Norwegian in quotes: 'no'",
    ),
    "k1-zero": (
        {"abilities": [{**MODEL, "k1": 0}]},
        "abilities[0].k1: found 0; allowed: a share in (0, 1]",
    ),
    "k2-large": (
        {"abilities": [{**MODEL, "k2": 2}]},
        "abilities[0].k2: found 2; allowed: a share in [0, 1]",
    ),
    "beta-alone": (
        {"abilities": [{**MODEL, "beta": 0.2}]},
        "abilities[0]: beta 0.2 needs a 'pivot' to subtract; give one, or beta 0",
    ),
    "model-and-pack": (
        {"abilities": [{**MODEL, "pack": "p"}]},
        "abilities[0]: give one of the keys 'model' and 'pack'",
    ),
    "pack-and-k1": (
        {"abilities": [{"pack": "p", "k1": 0.2}]},
        "abilities[0]: 'k1' is settled in the pack; leave it out",
    ),
    "mask-and-k1": (
        {"abilities": [{**MODEL, "mask": "m", "k1": 0.2}]},
        "abilities[0]: 'k1' is settled in the mask; leave it out",
    ),
    "dtype": ({"dtype": "int8"}, "dtype: found 'int8'; must be 'float32', 'bfloat16' or 'float16'"),
    "vocabulary": ({"vocabulary": "drop"}, "vocabulary: found 'drop'; must be 'refuse' or 'pad'"),
    "seed": ({"seed": 1.5}, f"seed: found 1.5; {WHOLE}"),
    "no-base": ({"base": ""}, "base: found ''; allowed: a folder, or a hub id (org/name or …)"),
}
"""``maec merge r.yaml out``: what is changed in a good recipe, and what is said of r.yaml."""

CHECKPOINTS = {
    "gone": ({"base": "gone"}, f"gone: {NO_MODEL}"),
    "empty": ({"base": "empty"}, "empty: no model.safetensors and no …; give a checkpoint folder"),
    "file": ({"base": "base/config.json"}, f"base/config.json: {NO_MODEL}"),
    "pickled": (
        {"base": "pickled"},
        "pickled: only pickled weights (pytorch_model.bin), which can run code…; convert them to…",
    ),
    "no-config": ({"base": "bare"}, "bare: no config.json; give a checkpoint as save_pretrained…"),
    "broken-config": ({"base": "no-json"}, "no-json/config.json: not valid JSON: …"),
    "no-shard": (
        {"base": "shards"},
        "shards/model.safetensors.index.json: names the shard …, which is not there; fetch it",
    ),
    "cut": (
        {"base": "cut"},
        "cut/model.safetensors: holds … bytes where its header says …; fetch…",
    ),
    "nan": (
        {"languages": [{"model": "nan"}]},
        "nan/model.safetensors: tensor 'model.norm.weight' holds NaN or infinite numbers; …",
    ),
    "quantised": ({"base": "quantised"}, "quantised/config.json: quantization_config: quantised…"),
    "adapter": (
        {"base": "lora"},
        "lora: an adapter, where a whole checkpoint is needed; give what…",
    ),
    "shape": (
        {"languages": [{"model": "shape"}]},
        f"shape: tensor 'model.norm.weight': shape [3], but shape [16] in {{here}}/base; {KIN}",
    ),
    "fewer-layers": (
        {"languages": [{"model": "fewer"}]},
        f"fewer: tensor 'model.layers.1.…': missing, but shape … in {{here}}/base; {KIN}",
    ),
    "tokens": (
        {"languages": [{"model": "words"}]},
        f"words: tokenizer differs from that of {{here}}/base: vocabulary: …; {KIN}…",
    ),
    "architecture": (
        {"languages": [{"model": "gpt"}]},
        f"gpt/config.json: model_type: 'gpt2', but {{here}}/base is 'llama'; {KIN}",
    ),
    "adapter-of-another-base": (
        {"languages": [{"model": "lora"}]},
        "lora: adapts … with shape [8, 8], but it is [16, 16] in {here}/base; give an adapter that "
        "was trained on this base",
    ),
    "adapter-kind": (
        {"languages": [{"model": "ia3"}]},
        "ia3/adapter_config.json: peft_type: 'IA3'; only LORA is merged here, merge it into…",
    ),
    "no-pack": (
        {"abilities": [{"pack": "math"}]},
        "math: no pack.json; give an ability pack made by `maec extract`",
    ),
    "no-mask": (
        {"abilities": [{**MODEL, "mask": "es"}]},
        "es: no mask.json; give a folder that holds a key-neuron mask",
    ),
}
"""``maec merge r.yaml out``: what is changed in a good recipe, and what is said of a checkpoint."""

M, R = {"m.yaml": matrix()}, {"r.yaml": recipe()}
TRAINING = {"m.yaml": matrix(**TRAINED)}
NOWHERE = "{here}/full/mine.txt is a file; name a folder, or unset it"
HOME_IS_A_FILE = {"MAEC_HOME": "full/mine.txt"}
SCORED = {"MAEC_HOME": "scored"}

COMMANDS = [
    # what is typed
    Mistake("harness pln m.yaml", "no such command 'pln'. Did you mean 'plan'?" + HELP, M),
    Mistake("harness run", "missing argument 'MATRIX'" + HELP),
    Mistake("harness plan m.yaml more", "got unexpected extra argument(s) (more)" + HELP, M),
    Mistake("harness run m.yaml --wrkers 2", "no such option: --wrkers…--workers…" + HELP, M),
    Mistake("harness run m.yaml --workers 0", "invalid value for '--workers': …" + HELP, M),
    Mistake(
        "harness run m.yaml --executor there",
        "--executor 'there': neither local, ray, auto, nor an address of a Ray cluster such as …",
        M,
    ),
    Mistake(
        "harness run m.yaml",
        "m.yaml: executor.address: no Ray cluster answers at '127.0.0.1:1' (Connection refused); "
        "start one there (`ray start --head`), …, or drop the address to have Ray started on …",
        {"m.yaml": matrix(executor={"kind": "ray", "address": "127.0.0.1:1"})},
    ),
    Mistake(
        "harness run m.yaml",
        "m.yaml: executor.artifacts: /shared: this is no URL; name one such as file:///…",
        {"m.yaml": matrix(executor={"kind": "ray", "artifacts": "/shared"})},
    ),
    Mistake("harness plan m.yaml --gpu", "option '--gpu' requires an argument" + HELP, M),
    Mistake("harness sweep m.yaml", "missing option '--budget'" + HELP, M),
    Mistake("harness sweep m.yaml --budget 0", "invalid value for '--budget': …" + HELP, M),
    Mistake("maec mrege r.yaml out", "no such command 'mrege'. Did you mean 'merge'?" + HELP, R),
    Mistake("maec merge r.yaml", "missing argument 'OUT_DIR'" + HELP, R),
    Mistake("maec merge a b c", "got unexpected extra argument(s) (c)" + HELP, R),
    Mistake("maec extract base math out --k1 many", "invalid value for '--k1': …" + HELP),
    Mistake(
        "maec extract base math out --granularity rows",
        "invalid value for '--granularity': …'parameter', 'row'" + HELP,
    ),
    # matrix files
    Mistake("harness run gone.yaml", "gone.yaml: there is no such matrix file…"),
    Mistake("harness table base", "base: …"),
    Mistake("harness cost base/model.safetensors", "base/model.safetensors: …"),
    Mistake(
        "harness plan m.yaml",
        "m.yaml: a matrix file is a mapping of keys to values…",
        {"m.yaml": ""},
    ),
    Mistake("harness plan m.yaml", "m.yaml: …: …line 2…", {"m.yaml": "languages:\n\t- te\n"}),
    Mistake("harness plan m.yaml", "m.yaml: a matrix file is a mapping…", {"m.yaml": "- te\n"}),
    Mistake("harness plan m.yaml", "m.yaml: …name…twice…", {"m.yaml": "name: a\nname: b\n"}),
    Mistake("harness plan m.yaml", "m.yaml: this is not YAML: line 2: …", {"m.yaml": "name: [te"}),
    Mistake("harness plan m.yaml", "m.yaml: …", {"m.yaml": b"name: t\xe9l\xe9"}),
    Mistake(
        "harness plan m.yaml",
        "m.yaml: …python/object/apply:os.system…",
        {"m.yaml": "name: !!python/object/apply:os.system ['touch gone']"},
    ),
    *(
        Mistake(
            f"harness {command}",
            "m.yaml: methods[0]: unknown method 'mace'; did you mean 'maec'?…",
            {"m.yaml": matrix(methods=["mace"])},
        )
        for command in ("run m.yaml", "table m.yaml", "cost m.yaml", "sweep m.yaml --budget 1")
    ),
    Mistake(
        "harness run m.yaml",
        "m.yaml: base: {here}/pickled: only pickled weights (pytorch_model.bin), which can run…",
        {"m.yaml": matrix(base="pickled")},
    ),
    # options of plan, cost and sweep
    Mistake(
        "harness plan m.yaml --gpu a1000", "--gpu: 'a1000' is unknown; did you mean 'a100'? …", M
    ),
    Mistake("harness plan m.yaml --utilisation 0", "--utilisation: 0.0; give a share in (0, 1]", M),
    Mistake("harness plan m.yaml --utilisation nan", "--utilisation: nan; give a share…", M),
    Mistake(
        "harness cost m.yaml --reference mace",
        "--reference: 'mace' is no method of m.yaml (allowed: base)",
        M,
    ),
    Mistake(
        "harness sweep m.yaml --budget 1 --method tw",
        "m.yaml: methods: there is no 'tw' (there are: base)",
        M,
    ),
    Mistake(
        "harness sweep m.yaml --budget 1 --method base",
        "method 'base': it declares no SEARCH, there is nothing to sweep",
        M,
    ),
    Mistake(
        "harness sweep m.yaml --budget 1",
        "m.yaml: methods: none of base declares a SEARCH, so there is nothing to sweep",
        M,
    ),
    Mistake(
        "harness sweep m.yaml --budget 1 --ability maths",
        "m.yaml: abilities: there is no 'maths'; did you mean 'math'? …",
        TRAINING,
    ),
    Mistake(
        "harness sweep m.yaml --budget 1",
        "m.yaml: variants: a sweep needs one point; leave them out",
        {"m.yaml": matrix(variants=[{"label": "a"}])},
    ),
    # what was never run
    *(
        Mistake(
            f"harness {command}",
            "{here}/home: nothing was scored here yet; `harness run MATRIX` does it",
        )
        for command in ("compare maec tv", "report")
    ),
    Mistake("harness export mine", "{here}/home: nothing was run here yet; `make matrix` starts"),
    Mistake("harness export-lm-eval out", "…: no matrix has a score yet; `make matrix` makes some"),
    # compare and report
    Mistake(
        "harness compare maec maec",
        "compare: name at least two different methods, found ['maec', 'maec']",
        places=SCORED,
    ),
    Mistake("harness compare maec", "compare: name at least two…, found ['maec']", places=SCORED),
    Mistake(
        "harness compare maec mace",
        "method 'mace': no scores in matrix 'synthetic'; did you mean 'maec'? …",
        places=SCORED,
    ),
    Mistake(
        "harness compare maec tv --matrix synthetik",
        "matrix 'synthetik': no scores in {here}/scored; did you mean 'synthetic'? …",
        places=SCORED,
    ),
    Mistake(
        "harness compare maec tv --ability science",
        "ability 'science': no scores in matrix 'synthetic' (scored: math)",
        places=SCORED,
    ),
    Mistake(
        "harness compare maec tv --variant big",
        "--variant: 'big': matrix 'synthetic' has no variants; leave it out",
        places=SCORED,
    ),
    Mistake(
        "harness report nano",
        "matrix 'nano': no scores in {here}/scored (scored: …)",
        places=SCORED,
    ),
    Mistake("harness report --out full", "--out: full is a folder; name a file", places=SCORED),
    # languages
    Mistake(
        "harness add-language english",
        "CODE: 'english' is no usual code of a language; did you mean 'en' (English)? …",
    ),
    Mistake("harness add-language es", "…/es.yaml: exists already; edit it, or name another…"),
    Mistake("harness add-language sw --resource some", "--resource: 'some'; allowed are high, low"),
    Mistake(
        "harness add-language sw --lexicon gone.yaml --out sw.yaml",
        "--lexicon: gone.yaml: no such file; name one that is there",
    ),
    Mistake(
        "harness add-language sw --lexicon l.yaml --out sw.yaml",
        "l.yaml: lexicon: unknown key 'wrods'; did you mean 'words'? …",
        {"l.yaml": "wrods: {}"},
    ),
    Mistake(
        "harness add-language sw --out full/mine.txt/sw.yaml",
        "full/mine.txt/sw.yaml: cannot be written: …; name another file with --out",
    ),
    # released sets
    Mistake(
        "harness export 'my set'",
        "RELEASE: 'my set' is no name for a folder: up to 100 letters, digits, … are allowed, …",
        places=SCORED,
    ),
    Mistake(
        "harness export ../mine", "RELEASE: '../mine' is no name for a folder: …", places=SCORED
    ),
    Mistake(
        "harness export mine --matrix nano",
        "--matrix: no matrix 'nano' has scores in {here}/scored (there are: synthetic)",
        places=SCORED,
    ),
    Mistake(f"harness export {RELEASE}", f"{{here}}/results/{RELEASE}: {EXISTS}", places=SCORED),
    Mistake("harness export mine --out full", f"full: {EXISTS}", places=SCORED),
    Mistake(
        "harness export mine --out full/mine.txt/x", "…: cannot be made here: Not a…", places=SCORED
    ),
    Mistake("harness import gone", "gone/manifest.json: cannot be read; name…"),
    Mistake(
        "harness import results/altered --as mine",
        "results/altered/cells.parquet: altered since it was released: SHA-256…; get the set…",
    ),
    Mistake(
        "harness import results/partial --as mine",
        "results/partial/items.parquet: there is no such file in this set; get the set again",
    ),
    Mistake(
        "harness import results/from-tomorrow --as mine",
        "results/from-tomorrow/manifest.json: schema_version: this set has 99, …; use a newer…",
    ),
    Mistake(
        "harness import results/no-json --as mine", "results/no-json/manifest.json: …JSON…; get…"
    ),
    Mistake(f"harness import results/{RELEASE}", f"{{here}}/results/{RELEASE}: {EXISTS}"),
    Mistake(
        f"harness import results/{RELEASE} --as ../b", "--as: '../b' is no name for a folder: …"
    ),
    Mistake(
        "harness verify micro-2026-12",
        f"'micro-2026-12' is no released set in {{here}}/results, and no folder with one; did "
        f"you mean '{RELEASE}'? (there are: …)",
    ),
    Mistake("harness verify altered", "{here}/results/altered/cells.parquet: altered since…"),
    Mistake(
        f"harness verify {RELEASE} --beside gone", "…'--beside': dir 'gone' does not exist" + HELP
    ),
    Mistake(
        f"harness verify {RELEASE}",
        f"'{RELEASE}' is no released set in {{here}}/gone, … (there are: none)",
        places={"MAEC_RESULTS": "gone"},
    ),
    Mistake(
        "harness cite micro-2026-12",
        "ROW: 'micro-2026-12' is no released set in {here}/results, and no key of a cell, of which "
        f"the first 4 letters or more are needed (0-9, a-f); did you mean '{RELEASE}'?",
    ),
    Mistake("harness cite 57", "ROW: '57' is no released set in …, and no key of a cell, …"),
    Mistake(
        "harness cite ffffffff",
        "ROW: no cell starts with 'ffffffff', in {here}/scored or in a set in {here}/none",
        places={**SCORED, "MAEC_RESULTS": "none"},
    ),
    Mistake(
        "harness cite aaaa",
        "ROW: 15 cells start with 'aaaa': aaaa…; give more letters",
        places={**SCORED, "MAEC_RESULTS": "none"},
    ),
    Mistake("harness export-lm-eval out --release gone", "'gone' is no released set in …"),
    Mistake(f"harness export-lm-eval full --release {RELEASE}", f"full: {EXISTS}"),
    Mistake(
        f"harness export-lm-eval out --release {RELEASE} --matrix nano",
        "--matrix: no matrix 'nano' has scores in … (there are: micro)",
    ),
    # where things lie
    *(
        Mistake(f"harness {command}", "MAEC_HOME: " + NOWHERE, M, HOME_IS_A_FILE)
        for command in ("run m.yaml", "plan m.yaml", "status", "clean --yes")
    ),
    Mistake("harness status", "MAEC_HOME: " + NOWHERE, places={"MAEC_HOME": "full/mine.txt/home"}),
    Mistake(
        f"harness import results/{RELEASE} --as mine",
        "MAEC_RESULTS: " + NOWHERE,
        places={"MAEC_RESULTS": "full/mine.txt"},
    ),
    Mistake(
        "harness run m.yaml",
        "m.yaml: base: {here}/nan/…: tensor 'model.norm.weight' holds NaN…",
        {"m.yaml": matrix(base="nan")},
    ),
    # recipes
    Mistake("maec merge gone.yaml out", "gone.yaml: no such file; name one that is there"),
    Mistake("maec merge base out", "base: …"),
    Mistake("maec merge r.yaml out", "r.yaml: not a recipe; write keys such as…", {"r.yaml": ""}),
    Mistake("maec merge r.yaml out", "r.yaml: …line 2…", {"r.yaml": "base:\n\t- x\n"}),
    Mistake("maec merge r.yaml out", "r.yaml: …", {"r.yaml": b"base: \xe9\n"}),
    # outputs and options of maec
    Mistake("maec merge r.yaml full", f"full: {EXISTS}", R),
    Mistake("maec merge r.yaml full/mine.txt", f"full/mine.txt: {EXISTS}", R),
    Mistake("maec merge r.yaml full/mine.txt/x", "…: cannot be made here: Not a directory", R),
    Mistake(
        "maec merge r.yaml out --memory lots", "--memory: 'lots' is no size; give one such as…", R
    ),
    Mistake(
        "maec merge r.yaml out --memory 1MB",
        "memory: 1.0 MB; give at least … MB for these models",
        R,
    ),
    Mistake(
        "maec merge r.yaml out --device tpu", "--device: 'tpu' is not here; give one of cpu…", R
    ),
    Mistake(
        "maec merge r.yaml out --dry-run",
        "{here}/gone: neither weights nor a config.json; give a checkpoint's folder",
        {"r.yaml": recipe(base="gone")},
    ),
    Mistake("maec extract gone math out", f"gone: {NO_MODEL}"),
    Mistake("maec extract base base out", "base: is base and ability; give a model that was…"),
    Mistake(
        "maec extract base math out --beta 0.2", "beta: 0.2 needs a pivot model to subtract; …"
    ),
    Mistake("maec extract base math out --k1 0", "k1: 0.0 is outside (0, 1]; give the share…"),
    Mistake("maec extract base math out --k1 nan", "k1: nan is outside (0, 1]; give the share…"),
    Mistake("maec extract base math out --alpha inf", "alpha: inf is no finite number; give one"),
    Mistake(
        "maec extract base math out --mask es --k1 0.1", "--k1: 0.1 is settled in the mask es; …"
    ),
    Mistake("maec extract base math out --mask gone", "gone: no mask.json; give a folder that…"),
    Mistake(
        "maec extract base shape out",
        f"shape: tensor '…': shape [3], but shape [16] in base; {KIN}",
    ),
    Mistake("maec extract base math full", f"full: {EXISTS}"),
    Mistake("maec inspect gone", "gone: nothing to inspect: none of … is there; give…"),
    Mistake("maec inspect base", "base: nothing to inspect: none of … is there; give…"),
    Mistake("maec push gone org/name", "gone: no such folder; give one made by MAEC"),
    Mistake(
        "maec push base org/name", "base: none of … is there; give an ability pack, a mask or…"
    ),
    Mistake("maec push base name", "name: neither a folder here nor a hub id; give…"),
    Mistake(
        "maec push base org/name@main",
        "org/name@main: the branch goes to --revision; give org/name",
    ),
    Mistake("maec pull name out", "name: neither a folder here nor a hub id; give…"),
    Mistake("maec pull org/name full", f"full: {EXISTS}"),
]
"""Everything else."""

"""Write the golden SentencePiece models and what SentencePiece itself makes of texts.

Run it as ``python tests/golden/make_tokenizers.py`` with a Python that has ``sentencepiece``. Into
``tests/golden/tokenizers`` go

- ``bpe.model``: BPE with byte fallback and tokens of its own, as Llama's;
- ``unigram.model``: Unigram with a table of replaced characters and merged spaces, as T5's;
- ``expected.json``: for each model the ids of texts, without BOS and EOS, and the decoded text.
"""

from __future__ import annotations

import json
import random
import tempfile
from pathlib import Path

import sentencepiece as spm

OUT = Path(__file__).parent / "tokenizers"
CORPUS = [
    "The quick brown fox jumps over the lazy dog; the dog barks at the fox and the fox runs away.",
    "for i in range(10): print(i, i * i, i ** 2)",
    "def add(a, b): return a + b  # adds two numbers",
    "Größe, naïve, façade, Übermut, ångström: words with accents are tokens too.",
    "In the beginning there was the word, and the word was with the words that follow.",
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen",
    "It's what she'd say, isn't it? They're here, we've been there, and you'll see.",
    "banana bandana ananas mississippi mississippi aaa aaaa aaaaa aba abab ababab",
]
TEXTS = [
    "",
    " ",
    "the",
    " the fox",
    "the  quick   brown",
    "  leading and trailing  ",
    "def add(a, b):\n    return a + b\n",
    "naïve Größe",
    "日本語 and emoji 🎉👩‍🚀!",
    "aaaaaaa abababab mississippi",
    "<tool>call</tool> x <tool> y",
    "literal <0x41> and <unk> and </s>",
    "ＦＵＬＬ ｗｉｄｔｈ ½ ﬁ",
    "tab\there\r\nnew\n\nlines",
]


def random_texts(count: int) -> list[str]:
    """Texts of pieces of the corpus and of characters that it does not hold."""
    rng = random.Random(1)
    pieces = [w for line in CORPUS for w in line.split()] + ["é", "ß", "世", "🎉", " ", "\n", "12", "zz"]
    return [
        "".join(rng.choice(pieces) + rng.choice(["", " ", "  "]) for _ in range(rng.randrange(1, 12)))
        for _ in range(count)
    ]


def train(name: str, folder: Path, **options: object) -> spm.SentencePieceProcessor:
    """Train a model and keep it."""
    corpus = folder / "corpus.txt"
    corpus.write_text("\n".join(CORPUS * 20), encoding="utf-8")
    spm.SentencePieceTrainer.train(
        input=str(corpus),
        model_prefix=str(folder / name),
        minloglevel=2,
        num_threads=1,
        **options,
    )
    data = (folder / f"{name}.model").read_bytes()
    (OUT / f"{name}.model").write_bytes(data)
    return spm.SentencePieceProcessor(model_proto=data)


def main() -> None:
    """Write all files."""
    OUT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as d:
        folder = Path(d)
        rules = folder / "rules.tsv"
        wide = [f"{0xFF01 + i:X}\t{0x21 + i:X}" for i in range(94)]
        rules.write_text("\n".join([*wide, "FB01\t66 69", "BD\t31 2044 32"]) + "\n")
        made = {
            "bpe": train(
                "bpe",
                folder,
                model_type="bpe",
                vocab_size=560,
                byte_fallback=True,
                normalization_rule_name="identity",
                remove_extra_whitespaces=False,
                user_defined_symbols=["<tool>", "</tool>"],
            ),
            "unigram": train(
                "unigram", folder, model_type="unigram", vocab_size=110, normalization_rule_tsv=str(rules)
            ),
        }
    texts = [*TEXTS, *random_texts(40)]
    expected = {
        name: [[t, model.encode(t), model.decode(model.encode(t))] for t in texts]
        for name, model in made.items()
    }
    (OUT / "expected.json").write_text(json.dumps(expected, ensure_ascii=False, indent=0) + "\n")


if __name__ == "__main__":
    main()

"""Vocabularies: tokenizers made from what GGUF files and SentencePiece models hold, and the reverse."""

from lamina.lm.vocabulary.build import TokenType, Vocabulary, build_tokenizer
from lamina.lm.vocabulary.gguf import vocabulary_from_gguf
from lamina.lm.vocabulary.sentencepiece import vocabulary_from_sentencepiece

__all__ = [
    "TokenType",
    "Vocabulary",
    "build_tokenizer",
    "vocabulary_from_gguf",
    "vocabulary_from_sentencepiece",
]

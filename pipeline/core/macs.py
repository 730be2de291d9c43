"""AES-CMAC (RFC 4493, NIST SP 800-38B) of many messages at once, each made of several texts.

A message is one block with the lengths of its texts, then each text, filled up with zeros to whole blocks. So no two
messages are the same or one the beginning of the other. All messages go through the cipher together, block by block:
one call per block instead of one per message.
"""

from collections.abc import Sequence

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from pipeline.core.numbers import Words
from pipeline.core.texts import Texts

BLOCK = 16  # bytes
MOST = 7  # texts in a message: their lengths fill the first block

_WORDS = BLOCK // 8


class Blocks:
    """AES under one key of 16, 24 or 32 bytes, of many blocks at once."""

    def __init__(self, key: bytes) -> None:
        # Each block by itself is what CMAC is defined with, and what is wanted of messages that are all different.
        self._encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305

    def encrypted(self, blocks: Words) -> Words:
        """rows × 2: each row's block, as two little-endian words."""
        done = self._encryptor.update(np.ascontiguousarray(blocks, dtype="<u8").tobytes())
        return np.frombuffer(bytearray(done), dtype="<u8").reshape(-1, _WORDS)


class Mac:
    """AES-CMAC under one key."""

    def __init__(self, key: bytes) -> None:
        self._blocks = Blocks(key)
        zero = np.zeros((1, _WORDS), dtype="<u8")
        doubled = int.from_bytes(self._blocks.encrypted(zero).tobytes(), "big") << 1
        if doubled >> 128:
            doubled ^= (1 << 128) | 0x87
        self._subkey = np.frombuffer(doubled.to_bytes(BLOCK, "big"), dtype="<u8")  # K1: every last block is whole

    def of(self, parts: Sequence[Texts]) -> Words:
        """rows × 2: the MAC of each row's texts as two little-endian words. The last text is never absent."""
        lengths = np.zeros((len(parts[0]), MOST + 1), dtype="<u2")
        for place, texts in enumerate(parts):
            lengths[:, place] = texts.lengths
        state = self._blocks.encrypted(lengths.view("<u8"))
        for part, texts in enumerate(parts):
            blocks = -(-texts.lengths // BLOCK)
            for block in range(int(blocks.max(initial=0))):
                # Mostly all texts have as many blocks; nothing is picked then.
                rows = slice(None) if block < blocks.min() else np.flatnonzero(blocks > block)
                mixed = state[rows] ^ texts.at(rows).words(_WORDS * block, _WORDS, filling=0)
                if part == len(parts) - 1:
                    mixed[blocks[rows] == block + 1] ^= self._subkey
                state[rows] = self._blocks.encrypted(mixed)
        return state

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


class Mac:
    """AES-CMAC under one key of 16, 24 or 32 bytes."""

    def __init__(self, key: bytes) -> None:
        # A block by itself is what CMAC is defined with; nothing leaves this class that is not chained.
        self._cipher = Cipher(algorithms.AES(key), modes.ECB())  # noqa: S305
        doubled = int.from_bytes(self._cipher.encryptor().update(bytes(BLOCK)), "big") << 1
        if doubled >> 128:
            doubled ^= (1 << 128) | 0x87
        self._subkey = np.frombuffer(doubled.to_bytes(BLOCK, "big"), dtype="<u8")  # K1: every last block is whole

    def of(self, parts: Sequence[Texts]) -> Words:
        """rows × 2: the MAC of each row's texts as two little-endian words. The last text is never absent."""
        lengths = np.zeros((len(parts[0]), MOST + 1), dtype="<u2")
        for place, texts in enumerate(parts):
            lengths[:, place] = texts.lengths
        state = self._encrypted(lengths.view("<u8"))
        for part, texts in enumerate(parts):
            blocks = -(-texts.lengths // BLOCK)
            for block in range(int(blocks.max(initial=0))):
                # Mostly all texts have as many blocks; nothing is picked then.
                rows = slice(None) if block < blocks.min() else np.flatnonzero(blocks > block)
                mixed = state[rows] ^ texts.at(rows).words(_WORDS * block, _WORDS, filling=0)
                if part == len(parts) - 1:
                    mixed[blocks[rows] == block + 1] ^= self._subkey
                state[rows] = self._encrypted(mixed)
        return state

    def _encrypted(self, state: Words) -> Words:
        done = self._cipher.encryptor().update(np.ascontiguousarray(state).tobytes())
        return np.frombuffer(bytearray(done), dtype="<u8").reshape(-1, _WORDS)

"""Keys in files: one per window, wrapped under a key-encryption key, shared by all workers that see the directory.

A window's key is drawn by whoever asks first (a hard link decides between two that ask at once). Destroying it
overwrites and removes the file and leaves a mark, so that it is never drawn again. The key-encryption key comes
from the environment or from a file, and is never in the directory.
"""

import base64
import os
import secrets
import stat
import threading
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from pipeline.core.pseudonyms import KEY_BYTES, WindowKey
from pipeline.core.windows import Window
from pipeline.settings import Settings

_NONCE = 12


class KeyStoreError(RuntimeError):
    """The keys cannot be used; the message says what to do. Nothing is counted without them."""


def read_kek(settings: Settings) -> bytes:
    """The key-encryption key. Raises :class:`KeyStoreError` when there is none, or when others could read its file."""
    text = settings.kek
    if settings.kek_file:
        path = Path(settings.kek_file)
        try:
            mode = path.stat().st_mode
            text = path.read_bytes().decode("ascii", "replace")
        except OSError as error:
            raise KeyStoreError(f"HEADCOUNT_KEK_FILE cannot be read ({type(error).__name__})") from None
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise KeyStoreError("HEADCOUNT_KEK_FILE can be read by others: chmod 600 it, and replace the key")
    if not text:
        raise KeyStoreError(
            "no key-encryption key: set HEADCOUNT_KEK_FILE (or HEADCOUNT_KEK); `headcount kek` prints a new one"
        )
    try:
        kek = base64.b64decode(text.strip(), validate=True)
    except ValueError:
        kek = b""
    if len(kek) != KEY_BYTES:
        raise KeyStoreError("the key-encryption key is not 32 bytes in base64; `headcount kek` prints a new one")
    return kek


class FileKeyStore:
    """A directory of wrapped keys, readable by its owner alone. Threads may share the store."""

    def __init__(self, directory: Path, kek: bytes) -> None:
        self._directory = directory
        self._wrap = AESGCMSIV(kek)
        self._known: dict[Window, WindowKey] = {}
        self._lock = threading.Lock()
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if directory.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise KeyStoreError(f"the directory of keys can be read by others: chmod 700 {directory}")
        self._route = self._load_or_draw("route")

    def window(self, window: Window) -> WindowKey | None:
        """The window's key; ``None`` once it was destroyed, by whichever worker."""
        with self._lock:
            return self._window(window)

    def _window(self, window: Window) -> WindowKey | None:
        known = self._known.get(window)
        if known is not None and self._path(window.name).exists():
            return known
        self._known.pop(window, None)
        if self._mark(window.name).exists():
            return None
        try:
            key = self._load_or_draw(window.name)
        except (KeyStoreError, FileNotFoundError):  # overwritten or removed while it was read: then it is marked
            if not self._mark(window.name).exists():
                raise
            return None
        if self._mark(window.name).exists():  # destroyed while it was drawn
            self._erase(window.name)
            return None
        self._known[window] = WindowKey(key)
        return self._known[window]

    def destroy(self, window: Window) -> None:
        """The mark first: from then on nobody draws the key again. Then the bytes."""
        with self._lock:
            self._mark(window.name).touch(mode=0o600)
            self._sync()
            self._erase(window.name)
            self._known.pop(window, None)

    def forget_destroyed(self) -> None:
        """Drops from memory what another worker has destroyed."""
        with self._lock:
            for window in [w for w in self._known if not self._path(w.name).exists()]:
                del self._known[window]

    def route(self) -> bytes:
        return self._route

    def born(self) -> float:
        """When the store was made, in seconds since 1970: no window that had closed by then is released."""
        return self._path("route").stat().st_mtime

    def _load_or_draw(self, name: str) -> bytes:
        path = self._path(name)
        with suppress(FileNotFoundError):
            return self._unwrap(name, path.read_bytes())
        nonce = secrets.token_bytes(_NONCE)
        wrapped = nonce + self._wrap.encrypt(nonce, secrets.token_bytes(KEY_BYTES), name.encode())
        draft = path.with_name(f".{name}.{secrets.token_hex(8)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(descriptor, wrapped)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        try:
            with suppress(FileExistsError):  # somebody else was first: theirs counts
                os.link(draft, path)
        finally:
            draft.unlink()
        self._sync()
        return self._unwrap(name, path.read_bytes())

    def _unwrap(self, name: str, wrapped: bytes) -> bytes:
        try:
            return self._wrap.decrypt(wrapped[:_NONCE], wrapped[_NONCE:], name.encode())
        except (InvalidTag, ValueError):
            raise KeyStoreError(
                "a key cannot be unwrapped: the key-encryption key is not the one that it was wrapped under"
            ) from None

    def _erase(self, name: str) -> None:
        path = self._path(name)
        with suppress(FileNotFoundError):
            with path.open("r+b") as file:
                file.write(bytes(path.stat().st_size))
                file.flush()
                os.fsync(file.fileno())
            path.unlink()
            self._sync()

    def _sync(self) -> None:
        descriptor = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.key"

    def _mark(self, name: str) -> Path:
        return self._directory / f"{name}.destroyed"

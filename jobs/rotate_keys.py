"""Wraps all live keys anew, under the first key-encryption key."""

from pipeline.keys import rotate

if __name__ == "__main__":
    rotate()

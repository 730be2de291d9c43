"""Attacks the promise and says how hard it was tried."""

from pipeline.audit.command import audit

if __name__ == "__main__":
    audit()

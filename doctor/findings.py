"""What the doctor says."""

import enum
from dataclasses import dataclass


class Level(enum.Enum):
    OK = "ok"
    NOTE = "note"
    WARNING = "WARN"
    PROBLEM = "FAIL"


@dataclass(frozen=True)
class Finding:
    """``advice`` says what to do."""

    level: Level
    text: str
    advice: str = ""

    def __str__(self) -> str:
        first = f"  {self.level.value:<5} {self.text}"
        return f"{first}\n        -> {self.advice}" if self.advice else first


def counted(count: int, noun: str) -> str:
    """Such as "no tokens", "1 token" and "2 tokens"."""
    return f"{count or 'no'} {noun}{'s' * (count != 1)}"


def ok(text: str) -> Finding:
    return Finding(Level.OK, text)


def note(text: str, advice: str = "") -> Finding:
    return Finding(Level.NOTE, text, advice)


def warning(text: str, advice: str) -> Finding:
    return Finding(Level.WARNING, text, advice)


def problem(text: str, advice: str) -> Finding:
    return Finding(Level.PROBLEM, text, advice)

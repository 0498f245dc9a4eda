"""Read the structure of Terraform's language: blocks, attributes, and literal values.

Expressions stay text; Terraform itself evaluates them. So this accepts everything that Terraform accepts, and reports
only broken structure, with its line.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TypeAlias

Literal: TypeAlias = "str | int | float | bool | list[Literal] | dict[str, Literal] | None"

_IDENTIFIER = re.compile(r"[^\W\d][\w-]*")
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?")
_HEREDOC = re.compile(r"<<(-?)([^\W\d][\w-]*)[ \t]*\r?\n")
_OPEN, _CLOSE = "([{", ")]}"
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}
_MAX_DEPTH = 100


class HclError(ValueError):
    """The structure is broken at a line."""

    def __init__(self, summary: str, line: int) -> None:
        super().__init__(summary)
        self.summary = summary
        self.line = line


class NotLiteral(ValueError):
    """An expression would have to be evaluated."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """`name = expression`, the expression as it is written."""

    name: str
    expression: str
    line: int


@dataclass(frozen=True, slots=True)
class Body:
    """What is between braces, or in a file."""

    attributes: dict[str, Attribute]
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """`type "label" ... { body }`."""

    type: str
    labels: tuple[str, ...]
    body: Body
    line: int


def parse(text: str) -> Body:
    """Read a file.

    Raises:
        HclError: its structure is broken.
    """
    return _Reader(text.removeprefix("\ufeff")).body(nested=False)


def entries(expression: str) -> list[tuple[str, str]]:
    """Give keys and values of an object literal, as they are written.

    Raises:
        NotLiteral: it is no object literal.
        HclError: it is one, but broken.
    """
    if not expression.startswith("{"):
        raise NotLiteral(expression)
    return _Reader(expression).object_entries()


def literal(expression: str) -> Literal:
    """Give the value of a literal.

    Raises:
        NotLiteral: the expression would have to be evaluated.
    """
    reader = _Reader(expression)
    try:
        value = reader.literal()
        reader.skip_space()
    except HclError as error:
        raise NotLiteral(expression) from error
    if not reader.at_end:
        raise NotLiteral(expression)
    return value


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0

    @property
    def at_end(self) -> bool:
        return self._at >= len(self._text)

    def body(self, *, nested: bool) -> Body:
        attributes: dict[str, Attribute] = {}
        blocks: list[Block] = []
        opened = self._line()
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise HclError("Blocks are nested too deeply", opened)
        while True:
            self.skip_space()
            if self.at_end:
                if nested:
                    raise HclError("Unclosed configuration block", opened)
                break
            if nested and self._peek() == "}":
                self._at += 1
                break
            self._item(attributes, blocks)
        self._depth -= 1
        return Body(attributes, tuple(blocks))

    def object_entries(self) -> list[tuple[str, str]]:
        self._at += 1
        result: list[tuple[str, str]] = []
        while True:
            self.skip_space(also=",")
            if self.at_end:
                raise HclError("Unterminated object constructor expression", self._line())
            if self._peek() == "}":
                return result
            key = self._expression(stop="=:")
            if self.at_end:
                raise HclError("Missing attribute value", self._line())
            self._at += 1
            self.skip_space(newlines=False)
            result.append((key, self._expression(stop=",}\n")))

    def literal(self) -> Literal:
        self.skip_space()
        char = self._peek()
        if char == '"':
            return self._string()
        if char == "[":
            return self._list()
        if char == "{":
            return {_key(key): literal(value) for key, value in self._object()}
        if heredoc := _HEREDOC.match(self._text, self._at):
            return self._heredoc(heredoc)
        if number := _NUMBER.match(self._text, self._at):
            self._at = number.end()
            return json.loads(number[0])
        word = _IDENTIFIER.match(self._text, self._at)
        if word is None or word[0] not in ("true", "false", "null"):
            raise NotLiteral(self._text)
        self._at = word.end()
        return json.loads(word[0])

    def skip_space(self, *, newlines: bool = True, also: str = "") -> None:
        blank = (" \t\r\n" if newlines else " \t") + also
        while not self.at_end:
            if self._peek() in blank:
                self._at += 1
            elif self._text.startswith(("#", "//"), self._at):
                end = self._text.find("\n", self._at)
                self._at = len(self._text) if end < 0 else end
            elif self._text.startswith("/*", self._at):
                end = self._text.find("*/", self._at + 2)
                if end < 0:
                    raise HclError("Unterminated comment", self._line())
                self._at = end + 2
            else:
                return

    def _item(self, attributes: dict[str, Attribute], blocks: list[Block]) -> None:
        line = self._line()
        name = _IDENTIFIER.match(self._text, self._at)
        if name is None:
            raise HclError("Argument or block definition required", line)
        self._at = name.end()
        self.skip_space(newlines=False)
        if self._peek() == "=" and self._text[self._at + 1 : self._at + 2] != "=":
            self._at += 1
            self.skip_space(newlines=False)
            expression = self._expression(stop="\n}")
            if not expression:
                raise HclError("Invalid expression", line)
            if name[0] in attributes:
                raise HclError("Attribute redefined", line)
            attributes[name[0]] = Attribute(name[0], expression, line)
            return
        blocks.append(Block(name[0], self._labels(), self.body(nested=True), line))

    def _labels(self) -> tuple[str, ...]:
        """Read the labels of a block, and its opening brace."""
        labels: list[str] = []
        while True:
            self.skip_space(newlines=False)
            char = self._peek()
            if char == "{":
                self._at += 1
                return tuple(labels)
            if char == '"':
                labels.append(self._label())
                continue
            word = _IDENTIFIER.match(self._text, self._at)
            if word is None:
                raise HclError("Invalid block definition", self._line())
            labels.append(word[0])
            self._at = word.end()

    def _label(self) -> str:
        line = self._line()
        try:
            return self._string()
        except NotLiteral as error:
            raise HclError("Invalid string literal", line) from error

    def _expression(self, *, stop: str) -> str:
        """Read an expression up to a character of `stop` outside of all brackets, and give its text."""
        start, end, brackets = self._at, self._at, list[str]()
        while not self.at_end:
            char = self._peek()
            if not brackets and char in stop and not self._text.startswith(("==", "=>"), self._at):
                break
            if self._text.startswith(("#", "//", "/*"), self._at):
                self.skip_space(newlines=False)
                continue
            if char == '"':
                self._skip_string()
            elif heredoc := _HEREDOC.match(self._text, self._at):
                self._skip_heredoc(heredoc)
            elif self._text.startswith(("==", "!=", "<=", ">=", "=>"), self._at):
                self._at += 2
            else:
                self._bracket(char, brackets)
                self._at += 1
            if not char.isspace():
                end = self._at
        if brackets:
            raise HclError("Unclosed bracket in an expression", self._line(start))
        return self._text[start:end].strip()

    def _bracket(self, char: str, brackets: list[str]) -> None:
        if char in _OPEN:
            brackets.append(_CLOSE[_OPEN.index(char)])
        elif char in _CLOSE and (not brackets or brackets.pop() != char):
            raise HclError(f'Unexpected "{char}"', self._line())

    def _skip_string(self) -> None:
        """Pass a quoted template, with the expressions inside it."""
        line = self._line()
        self._at += 1
        while not self.at_end:
            char = self._peek()
            if char == "\\":
                self._at += 2
            elif char == '"':
                self._at += 1
                return
            elif self._text.startswith(("$${", "%%{"), self._at):
                self._at += 3
            elif self._text.startswith(("${", "%{"), self._at):
                self._at += 2
                self._expression(stop="}")
                self._at += 1
            elif char == "\n":
                break
            else:
                self._at += 1
        raise HclError("Unterminated template string", line)

    def _skip_heredoc(self, heredoc: re.Match[str]) -> int:
        """Pass a heredoc up to the end of its closing word; give where its text ends."""
        closing = re.compile(rf"^[ \t]*{re.escape(heredoc[2])}[ \t]*\r?$", re.MULTILINE)
        found = closing.search(self._text, heredoc.end())
        if found is None:
            raise HclError("Unterminated template string", self._line())
        self._at = found.end()
        return found.start()

    def _string(self) -> str:
        start = self._at
        self._skip_string()
        raw = self._text[start + 1 : self._at - 1]
        if re.search(r"(?<!\$)\$\{|(?<!%)%\{", raw):
            raise NotLiteral(raw)
        return _unescaped(raw).replace("$${", "${").replace("%%{", "%{")

    def _heredoc(self, heredoc: re.Match[str]) -> str:
        end = self._skip_heredoc(heredoc)
        text = self._text[heredoc.end() : end]
        if re.search(r"(?<!\$)\$\{|(?<!%)%\{", text):
            raise NotLiteral(text)
        if not heredoc[1]:
            return text
        lines = text.splitlines(keepends=True)
        indents = [len(line) - len(line.lstrip(" \t")) for line in lines if line.strip()]
        indent = min(indents, default=0)
        return "".join(line[indent:] if line.strip() else line.lstrip(" \t") for line in lines)

    def _list(self) -> list[Literal]:
        self._at += 1
        items: list[Literal] = []
        while True:
            self.skip_space(also=",")
            if self.at_end:
                raise HclError("Unterminated tuple constructor expression", self._line())
            if self._peek() == "]":
                self._at += 1
                return items
            items.append(self.literal())

    def _object(self) -> list[tuple[str, str]]:
        result = self.object_entries()
        self._at += 1
        return result

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _line(self, at: int | None = None) -> int:
        return self._text.count("\n", 0, self._at if at is None else at) + 1


def _key(raw: str) -> str:
    if raw.startswith('"'):
        value = literal(raw)
        assert isinstance(value, str)
        return value
    if _IDENTIFIER.fullmatch(raw):
        return raw
    raise NotLiteral(raw)


def _unescaped(raw: str) -> str:
    def one(match: re.Match[str]) -> str:
        code = match[1]
        return chr(int(code[1:], 16)) if code[0] in "uU" else _ESCAPES.get(code, code)

    return re.sub(r"\\(u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", one, raw)

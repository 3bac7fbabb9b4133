"""Reads fences without running them: each reader raises AssertionError, or the language's own error."""

from __future__ import annotations

import ast
import importlib
import itertools
import json
import re
import shlex
import subprocess
import tomllib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa
import typer
import yaml
from tests.papers.fences import PROJECT

from carpool_worker.cli import app
from carpool_worker.models import tables

COMMANDS = typer.main.get_command(app)
OPERATORS = {"&&", "||", "|", ";", "&", ">", ">>", "<"}
ASSIGNMENT = re.compile(r"[A-Z_]+=.*", re.DOTALL)
OTHERS = {"cp", "jq", "systemctl", "source", "python"}
"""Programs that are not ours."""


def python(text: str) -> None:
    """It compiles, and what it imports is there."""
    compile(text, "<fence>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                importlib.import_module(alias.name)
        elif isinstance(node, ast.ImportFrom) and node.module:
            module = importlib.import_module(node.module)
            for alias in node.names:
                assert hasattr(module, alias.name), f"{node.module} has no {alias.name}"


def shell(text: str) -> None:
    """bash can read it, and every command is one that exists, with these options."""
    read = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    assert read.returncode == 0, read.stderr
    for line in text.replace("\\\n", " ").splitlines():
        for command in simple_commands(line):
            check_command(command)


def simple_commands(line: str) -> Iterator[list[str]]:
    """Yield the commands of a line, without the assignments before them and what they are piped into or from."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if word in OPERATORS:
            while words and ASSIGNMENT.fullmatch(words[0]):
                words.pop(0)
            if words:
                yield words
            words = []
        else:
            words.append(word)


def check_command(words: Sequence[str]) -> None:
    """A command and its options exist."""
    program, *arguments = words
    program = program.removeprefix(".venv/bin/")
    if program == "carpool":
        check_carpool(arguments)
    elif program == "make":
        makefile = (PROJECT / "Makefile").read_text()
        for target in arguments:
            if "=" not in target:
                assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make has no {target}"
    elif program == "docker":
        check_compose(arguments)
    elif program == "pip":
        check_extras(arguments)
    else:
        assert program in OTHERS, f"is {program} a program?"


def check_carpool(arguments: Sequence[str]) -> None:
    """`carpool` has this command, with these options, and takes arguments where some are given."""
    command: Any = COMMANDS
    rest = list(arguments)
    while rest and (found := getattr(command, "commands", {}).get(rest[0])):
        command = found
        rest.pop(0)
    assert command is not COMMANDS or not rest or rest[0].startswith("-"), f"carpool has no {rest}"
    options = {name: option for option in command.params for name in (*option.opts, *option.secondary_opts)}
    takes_arguments = any(option.param_type_name == "argument" for option in command.params)
    while rest:
        word = rest.pop(0)
        name, given, _ = word.partition("=")
        if not word.startswith("-") or word == "-":
            assert takes_arguments, f"carpool {' '.join(arguments)}: takes no {word}"
        elif name not in ("--help", "-h"):
            assert name in options, f"carpool {' '.join(arguments)}: no option {name}"
            takes_value = not getattr(options[name], "is_flag", False)
            if takes_value and not given and rest:
                rest.pop(0)


def check_compose(arguments: Sequence[str]) -> None:
    """The services that are scaled exist."""
    assert arguments[0] == "compose"
    services = yaml.safe_load((PROJECT / "compose.yaml").read_text())["services"]
    for option, value in itertools.pairwise(arguments):
        if option == "--scale":
            assert value.partition("=")[0] in services, value


def check_extras(arguments: Sequence[str]) -> None:
    """The extras of Carpool that are installed exist."""
    extras = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for named in re.findall(r"carpool\[([\w,]+)\]", " ".join(arguments)):
        assert set(named.split(",")) <= extras.keys(), named


def settings_in_toml(text: str) -> None:
    """It loads; where it is Carpool's, every table and key is a setting with a good value."""
    from carpool_worker.settings import Settings

    Settings(**tomllib.loads(text))


def environment(text: str) -> None:
    """Each line is a variable that compose.yaml asks for."""
    compose = (PROJECT / "compose.yaml").read_text()
    for line in text.splitlines():
        name = line.partition("=")[0]
        assert f"${{{name}:" in compose, name


def mermaid(text: str) -> None:
    """It is a kind of diagram that GitHub draws."""
    assert text.startswith(("flowchart ", "stateDiagram-v2\n", "sequenceDiagram\n"))


def sql(text: str) -> None:
    """It runs on the tables, which a name before a dot has in a schema of its own."""
    engine = sa.create_engine("sqlite://")
    with engine.connect() as connection:
        for cell in sorted(set(re.findall(r"\b(\w+)\.usage\b", text))):
            connection.exec_driver_sql(f"ATTACH ':memory:' AS {cell}")
            connection = connection.execution_options(schema_translate_map={None: cell})
            tables.usage.create(connection)
        connection.exec_driver_sql(text)
    engine.dispose()


READERS: dict[str, Callable[[str], object]] = {
    "python": python,
    "sh": shell,
    "toml": settings_in_toml,
    "json": json.loads,
    "yaml": yaml.safe_load,
    "sql": sql,
    "env": environment,
    "mermaid": mermaid,
}
"""By language."""

"""Each program runs to its end: every call that its script makes is answered as Anthropic's API would."""

from __future__ import annotations

import json
import shutil
import subprocess
from importlib.metadata import Distribution
from pathlib import Path

import pytest
from tests.programs import environments
from tests.programs.conftest import Door
from tests.programs.fixed_ids import fixed_ids

SCRIPTS = Path(__file__).parent / "scripts"
EXAMPLES = environments.PROJECT / "docs" / "examples"
ENDS_WITHIN = 240.0

PYTHON = {
    "anthropic": ("anthropic", "anthropic_sdk.py"),
    "instructor": ("instructor", "instructor_extract.py"),
    "langchain": ("langchain-anthropic", "langchain_chat.py"),
    "litellm": ("litellm", "litellm_completion.py"),
    "llama_index": ("llama-index-llms-anthropic", "llama_index_llm.py"),
    "pydantic_ai": ("pydantic-ai-slim", "pydantic_ai_agent.py"),
}
"""By its environment, a program's package and the script that uses it."""

NODE = {
    "@anthropic-ai/sdk": "anthropic_sdk.js",
    "@langchain/anthropic": "langchain_chat.js",
    "ai": "vercel_ai.js",
}

Passed = list[tuple[str, str, int]]

pytestmark = pytest.mark.timeout(600)


def run(door: Door, folder: Path, *command: str, **environment: str) -> str:
    """Run a program with the gateway in its environment; return what it printed."""
    ran = subprocess.run(
        command,
        cwd=folder,
        env=door.environment() | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=ENDS_WITHIN,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-6_000:]
    return ran.stdout


def version(environment: str, package: str) -> str:
    """Return the version of a package that is installed in an environment."""
    [site] = (environments.ROOT / environment / "lib").glob("python*/site-packages")
    [found] = Distribution.discover(name=package, path=[str(site)])
    return found.version


@pytest.mark.parametrize("environment", PYTHON)
def test_a_python_program_works_unchanged(
    door: Door, passed: Passed, tmp_path: Path, environment: str
) -> None:
    package, script = PYTHON[environment]
    printed = run(door, tmp_path, str(environments.python(environment)), str(SCRIPTS / script))
    passed.append((package, version(environment, package), printed.count("ok: ")))


@pytest.mark.parametrize("package", NODE)
def test_a_node_program_works_unchanged(door: Door, passed: Passed, package: str) -> None:
    folder = environments.node_folder("programs")
    printed = run(door, folder, environments.node(), NODE[package])
    installed = json.loads((folder / "node_modules" / package / "package.json").read_text())["version"]
    passed.append((f"{package} (Node)", installed, printed.count("ok: ")))


def test_llm_works_from_the_command_line(door: Door, passed: Passed, tmp_path: Path) -> None:
    llm = str(environments.python("llm").with_name("llm"))
    answers = [
        run(
            door,
            tmp_path,
            llm,
            "-m",
            "claude-haiku-4.5",
            *options,
            "Hello, Claude",
            LLM_USER_PATH=str(tmp_path),
        )
        for options in ((), ("--no-stream",))
    ]
    assert [answer.strip() for answer in answers] == ["[simulated] An answer to: Hello, Claude"] * 2
    passed.append(("llm", version("llm", "llm"), len(answers)))


@pytest.mark.parametrize("is_batch", [False, True], ids=["plain", "batch"])
def test_inspect_evaluates(door: Door, passed: Passed, tmp_path: Path, is_batch: bool) -> None:
    inspect = str(environments.python("inspect").with_name("inspect"))
    batches = tmp_path / "batches.yaml"
    batches.write_text("size: 10\nsend_delay: 1\ntick: 0.5\n")
    options = ["--batch", str(batches)] if is_batch else []
    model, log = "anthropic/claude-haiku-4-5", str(tmp_path / "logs")
    command = (
        inspect,
        "eval",
        "inspect_task.py",
        "--model",
        model,
        "--log-dir",
        log,
        "--log-format",
        "json",
        *options,
    )
    run(door, SCRIPTS, *command, "--display", "plain")

    [written] = Path(log).glob("*.json")
    found = json.loads(written.read_text())
    assert found["status"] == "success"
    assert found["results"]["scores"][0]["metrics"]["accuracy"]["value"] == 1.0
    name = "inspect-ai --batch" if is_batch else "inspect-ai"
    passed.append((name, version("inspect", "inspect-ai"), found["results"]["completed_samples"]))


def test_the_sdks_own_tests_of_batches_pass(door: Door, passed: Passed) -> None:
    # They are in the SDK's source distribution, and run unchanged against a gateway in their mock's place
    [source] = (environments.ROOT / environments.SDK_TESTS).glob("anthropic-*/")
    python = str(environments.python(environments.SDK_TESTS))
    tests = "tests/api_resources/messages/test_batches.py"
    with fixed_ids(door.url, door.secret) as url:
        options = ("-q", "-p", "no:cacheprovider", "-n0")
        printed = run(door, source, python, "-m", "pytest", *options, tests, TEST_API_BASE_URL=url)
    count = int(printed.rpartition(" passed")[0].split()[-1])
    assert count >= 80
    passed.append(("anthropic's own batch tests", version("anthropic", "anthropic"), count))


def test_the_node_clients_own_tests_pass(door: Door, passed: Passed) -> None:
    folder = environments.node_folder("carpool")
    printed = run(door, folder, environments.node(), "node_modules/typescript/bin/tsc")
    assert not printed
    tests = ["test/client.test.js", "test/gateway/calls.test.js"]
    count = 0
    for test in tests:
        printed = run(door, folder, environments.node(), "--test", "--test-reporter", "tap", test)
        count += int(printed.partition("# pass ")[2].split()[0])
    passed.append(("@carpool/anthropic (Node)", "0.1.0", count))


def test_the_examples_for_langchain_and_node_run(door: Door, passed: Passed) -> None:
    # LangChain is told of the gateway by the environment alone
    printed = run(
        door, EXAMPLES, str(environments.python("langchain")), str(EXAMPLES / "langchain_script.py")
    )
    assert printed.splitlines()[0] == "[simulated] positive"
    assert "sentiment=" in printed

    # Node's script changes its import
    folder = environments.node_folder("carpool")
    shutil.copy(EXAMPLES / "node_batches.js", folder)
    lines = run(door, folder, environments.node(), "node_batches.js").splitlines()
    assert sorted(line.split()[0] for line in lines) == ["item-0", "item-1", "item-2"]
    assert all("[simulated]" in line for line in lines)
    passed.append(("docs/examples", "", 2))

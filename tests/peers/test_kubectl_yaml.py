"""Manifests are read as the real kubectl reads them: the same values, and the same documents refused."""

from __future__ import annotations

import json
import random
import re
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pipelines.objects.kubernetes_yaml import read_documents

pytestmark = pytest.mark.peers

HEAD = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: NAME, namespace: shop}\n"

SCALARS = """\
y Y yes Yes YES yEs n N no No NO on On ON off Off OFF oFF true True TRUE tRUE false False FALSE null Null NULL nULL ~ = << . 0 00
07 0777 08 09 0o17 0O17 0x1F 0X1f 0b101 0B11 -0b11 +0b1 -0 -07 +7 1_000 1__0 _1 1_ 0x_f 0_7 -1_0 + - . .. -. +.
9223372036854775807 9223372036854775808 -9223372036854775808 -9223372036854775809 18446744073709551615 18446744073709551616
+18446744073709551615 1.0 1. .5 -.5 +.5 1.5e3 1e3 1E3 1e+3 1e-3 1.e3 .5e1 e3 1e 1e400 -1e400 1e-400 0.1 1.10
100000000000000000000.0 1e19 1e21 1e22 -0.0 1_0.5 1.5_0 .5_0 0x1.8p1 0x1p-2 infinity nan NaN inf .nan .NaN .NAN .Nan .inf .Inf
.INF -.inf +.inf +.INF 190:20:30 1:20 60:00 -1:20 12:30:45.5 2001-01-01 2001-1-1 2001-12-14t21:59:43.10-05:00 2001-12-14T21:59:43Z
2001-01 20010101 0001-01-01 2001-13-45 !!str:12 !!str:yes !!int:12 !!int:yes !!int:"12" !!int:1.0 !!float:1 !!float:yes !!bool:yes
!!bool:1 !!null:~ !!null:x !!binary:aGk= !!binary:??? !!timestamp:2001-01-01 !!timestamp:x !secret:x !x!y:z !<tag:x>:12 !:12
!:"12" "yes" 'yes' "12" '0777' "" '' "\\u00e9" "a\\tb" 'it''s' "\\x41" "\\/" "\\ud83d" 10.0.0.0/8 ::1 fe80::1 1.2.3.4 8080-8090
0/0 80/TCP a:b a#b a,b [] {} [1,yes] {a:1} *none &x &x:yes @x `x %x |x >x ,x ?x :x -x é 日本 😀
""".split()  # noqa: SIM905 - a list of three hundred quoted texts is not readable
BLOCKS = [
    "|\n  a\n  b\n", "|-\n  a\n  b\n\n", "|+\n  a\n\n", ">\n  a\n  b\n\n  c\n", ">-\n  yes\n",
    "|2\n    a\n", "\n  yes\n", "yes\n  no\n", "'a\n  b'\n", '"a\\\n  b"\n',
]  # fmt: skip
SHAPES = [
    "spec:\n  a: &p {x: y}\n  b: *p\n  c: &p {x: z}\n  d: *p\n",
    "spec:\n  <<: {a: 1}\n  a: 2\n",
    "spec:\n  a: 2\n  <<: {a: 1, b: 3}\n",
    "spec:\n  x: &x {a: 1}\n  y: &y {a: 2, b: 2}\n  z: {<<: [*x, *y], c: 3}\n",
    "spec:\n  x: &x {a: 1}\n  z: {<<: *x, <<: {a: 5}}\n",
    'spec:\n  "<<": {a: 1}\n',
    "spec:\n  '<<': 1\n  b: <<\n",
    "spec:\n  <<: 1\n",
    "spec:\n  <<: [1]\n",
    "spec:\n  <<: []\n",
    "spec:\n  a: *nothing\n",
    "spec:\n  a: &a [*a]\n",
    "spec:\n  ? a\n  : b\n",
    "spec:\n  ? [a]\n  : b\n",
    "spec:\n  ? {a: b}\n  : c\n",
    "spec: {a, b: c, d: }\n",
    "spec:\n  - a\n  -\n  - - b\n    - c\n  - d: e\n    f: g\n",
    "spec:\n- a\n- b: c\n",
    "spec:\n  a: b: c\n",
    "spec:\n\ta: b\n",
    "spec:\n  a:\tb\n",
    "spec: {a: [1, 2,], }\n",
    "spec: {a: 1\n  b: 2}\n",
    "spec: # comment\n  a: b # comment\n  #c: d\n",
    "spec:\n  a: 'x\n",
    "spec:\n  a: \"\\q\"\n",
    "spec:\n   a: 1\n  b: 2\n",
    "spec:\n  a: 1\n   b: 2\n",
    "spec: !!map {a: 1}\n",
    "spec: !!seq [a]\n",
    "spec: !!set {a, b}\n",
    "spec: !unknown {a: yes}\n",
    "spec: !unknown [1]\n",
    "spec:\n  {a: b}\n",
    "spec: |\n  a: {{ b }}\n",
    "spec: {{ b }}\n",
    "spec:\r\n  a: b\r\n  c: |\r\n    d\r\n",
    "spec:\n  a: b\n...\n",
    "spec:\n  a: ''\n  b: \"\"\n  c:\n",
    "spec: [a: b, c: d]\n",
    "spec: [? a : b]\n",
    "spec:\n  80: a\n  0777: b\n  yes: c\n  1.5: d\n  1e6: e\n  1234567.0: f\n  .5: g\n  -0.00001: h\n  1e10: i\n"
    "  2001-01-01: j\n  0x10: k\n  16777217.0: l\n  1e40: m\n",
    "spec:\n  null: a\n",
    "spec:\n  ~: a\n",
    "spec:\n  : a\n",
    "spec:\n  .nan: a\n",
    "spec:\n  18446744073709551615: a\n",
    "spec: {a: \"é\\u2028\"}\n",
    "spec: {a: <b>&amp;}\n",
    "--- # comment\nspec: {a: 1}\n",
    "---   \nspec: {a: 1}\n",
    "---\t\nspec: {a: 1}\n",
    "--- {spec: 1}\n",
    "--- |\n  spec\n",
    "---x\nspec: 1\n",
    "spec: 1\n--- x\n",
    "%YAML 1.1\n---\nspec: 1\n",
    "spec: |\n  a\n  ---\n  b\n",
    "spec: 'a\n  --- b'\n",
]


def documents() -> dict[str, str]:
    """Some hundred documents, by name: each scalar as a value and as a key, in many places and styles, and mixtures of them."""
    made: dict[str, str] = {}

    def add(body: str) -> None:
        name = f"d{len(made):04}"
        if body.startswith(("---", "%")) and "spec" in body:
            first, _, rest = body.partition("\n")
            made[name] = f"{first}\n{HEAD.replace('NAME', name)}{rest}"
        else:
            made[name] = HEAD.replace("NAME", name) + body

    texts = [re.sub(r"^(![^:]*):", r"\1 ", text) for text in SCALARS]
    for text in texts:
        add(f"spec: {text}\n")
        add(f"spec: [{text}]\n")
        add(f"spec:\n  {text}: v\n")
    for block in BLOCKS:
        add(f"spec: {block}")
    for shape in SHAPES:
        add(shape)
    chance = random.Random(20)
    for _ in range(150):
        add(f"spec:\n{_mixture(chance, texts, 1)}")
    return made


def _mixture(chance: random.Random, texts: list[str], depth: int) -> str:
    """A block mapping with scalars, flows and more mappings of them."""
    lines = []
    for number in range(chance.randint(1, 4)):
        key, place = f"k{number}", "  " * depth
        match chance.randint(0, 4):
            case 0 if depth < 4:
                lines.append(f"{place}{key}:\n{_mixture(chance, texts, depth + 1)}")
            case 1:
                lines.append(f"{place}{key}:\n" + "".join(f"{place}- {chance.choice(texts)}\n" for _ in range(2)))
            case 2:
                lines.append(f"{place}{key}: {{a: {chance.choice(texts)}, b: [{chance.choice(texts)}]}}\n")
            case 3:
                lines.append(f"{place}{key}: &a{number} {chance.choice(texts)}\n{place}{key}x: *a{number}\n")
            case _:
                lines.append(f"{place}{key}: {chance.choice(texts)}\n")
    return "".join(lines)


def _integer(text: str) -> int | float:
    """kubectl prints floats without a point; beyond 64 bits an integer can only have been one."""
    return int(text) if -(2**63) <= int(text) < 2**63 else float(text)


def kubectl_reads(program: Path, folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """By file, what kubectl reads of it, and why it refuses it."""
    done = subprocess.run(
        [program, "label", "--local", "--filename", folder, "--output", "json", "added=here"], capture_output=True, text=True, timeout=300
    )
    values, decoder, place = dict[str, Any](), json.JSONDecoder(parse_int=_integer), 0
    while done.stdout[place:].strip():
        place += len(done.stdout[place:]) - len(done.stdout[place:].lstrip())
        value, place = decoder.raw_decode(done.stdout, place)
        del value["metadata"]["labels"]
        values[value["metadata"]["name"]] = value
    refused = {}
    for line in done.stderr.splitlines():
        found = re.search(r"(d\d{4})\.(?:yaml|json)\b(.*)", line)
        if found:
            refused[found[1]] = found[2]
    return values, refused


def we_read(text: str) -> tuple[Any, str | None]:
    """The object and the first problem of a text."""
    read = list(read_documents(text))
    values = [each.value for each in read if each.problem is None and isinstance(each.value, dict) and "kind" in each.value]
    problem = next((each.problem.text for each in read if each.problem), None)
    return (values[0] if values else None), problem


def typed(value: Any) -> str:
    """A text that tells 1 from true and from 1.5."""
    return json.dumps(value, sort_keys=True)


@pytest.fixture(scope="session")
def kubectl(kubernetes: ModuleType) -> Path:
    program: Path = kubernetes.running.program("kubectl")
    return program


def test_every_document_is_read_as_the_real_kubectl_reads_it(kubectl: Path, tmp_path: Path) -> None:
    made = documents()
    assert len(made) > 500
    for name, text in made.items():
        (tmp_path / f"{name}.yaml").write_bytes(text.encode())
    values, refused = kubectl_reads(kubectl, tmp_path)
    assert len(values) > 300
    assert len(values) + len(refused) >= len(made) - 5
    wrong = []
    for name, text in made.items():
        ours, problem = we_read(text)
        if name in values and (problem or typed(ours) != typed(values[name])):
            wrong.append(f"{text!r}: kubectl reads {typed(values[name])}; we read {typed(ours)}, {problem}")
        elif name not in values and problem is None:
            wrong.append(f"{text!r}: kubectl refuses ({refused.get(name)}); we read {typed(ours)}")
    assert not wrong, f"{len(wrong)} of {len(made)}:\n" + "\n".join(wrong)


def test_the_one_difference_is_refused_with_its_line_and_never_read_otherwise() -> None:
    """go-yaml lets a plain text in [] or {} end with a colon; libyaml does not."""
    for text in ("spec: [x:]\n", "spec: {a:,b}\n"):
        ours, problem = we_read(HEAD + text)
        assert (ours, problem) == (None, "not valid YAML: found unexpected ':'")


def test_of_two_equal_keys_kubectl_silently_takes_the_last_and_we_refuse(kubectl: Path, tmp_path: Path) -> None:
    text = HEAD.replace("NAME", "d0000") + "spec:\n  a: 1\n  a: 2\n"
    (tmp_path / "d0000.yaml").write_text(text)
    values, _ = kubectl_reads(kubectl, tmp_path)
    assert values["d0000"]["spec"] == {"a": 2}
    assert we_read(text)[1] == "the key a is given twice (the first time one line above)"

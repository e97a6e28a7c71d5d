"""References inside texts for bash: where they may stand, and that bash never runs a value."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_scope import SampleScope

from codomyrmex.logistics.orchestration.project.expressions import ExpressionError
from codomyrmex.logistics.orchestration.project.references import compile_template
from codomyrmex.logistics.orchestration.project.shell_text import MAX_TEXT, shell_variables

WRITTEN = [
    ("echo ${item}", 'echo "${CODOMYRMEX_1}"'),
    ('echo "a ${item}b"', 'echo "a ${CODOMYRMEX_1}b"'),
    ("x=${item}; echo ${item}/${index}", 'x="${CODOMYRMEX_1}"; echo "${CODOMYRMEX_1}"/"${CODOMYRMEX_2}"'),
    ("echo ${ item.a ?? 'x y' }", 'echo "${CODOMYRMEX_1}"'),
    ("echo ${len(item)} ${index + 1}", 'echo "${CODOMYRMEX_1}" "${CODOMYRMEX_2}"'),
    ('x="$(cat ${item})"', 'x="$(cat "${CODOMYRMEX_1}")"'),
    ('x="$(cat "${item}")" ${item}', 'x="$(cat "${CODOMYRMEX_1}")" "${CODOMYRMEX_1}"'),
    ('x=`cat "${item}"` ${item}', 'x=`cat "${CODOMYRMEX_1}"` "${CODOMYRMEX_1}"'),
    ('"$(case a in a) echo 1;; esac) ${item}"', '"$(case a in a) echo 1;; esac) ${CODOMYRMEX_1}"'),
    ('"$(echo case) ${item}"', '"$(echo case) ${CODOMYRMEX_1}"'),
    ("(cd ${item}; ls)", '(cd "${CODOMYRMEX_1}"; ls)'),
    ("cat <<EOF\n'${item}\nEOF\necho ${item}", "cat <<EOF\n'${CODOMYRMEX_1}\nEOF\necho \"${CODOMYRMEX_1}\""),
    ("cat <<-E\n\t$(x ${item})\n\tE\n${item}", 'cat <<-E\n\t$(x "${CODOMYRMEX_1}")\n\tE\n"${CODOMYRMEX_1}"'),
    ("cat <<A <<B\n${item}\nA\n${item}\nB\n${item}",
     'cat <<A <<B\n${CODOMYRMEX_1}\nA\n${CODOMYRMEX_1}\nB\n"${CODOMYRMEX_1}"'),
    ("cat <<< ${item}", 'cat <<< "${CODOMYRMEX_1}"'),
    ("echo $((1 + ${index} * ${int(item)}))", "echo $((1 + ${CODOMYRMEX_1} * ${CODOMYRMEX_2}))"),
    ("[[ ${item} == a* ]]", '[[ "${CODOMYRMEX_1}" == a* ]]'),
    ("[[ ${index} -gt 1 ]]", '[[ "${CODOMYRMEX_1}" -gt 1 ]]'),
    ("[ ${item} -gt 1 ]", '[ "${CODOMYRMEX_1}" -gt 1 ]'),
    ("# don't ${item}\necho ${item}", "# don't ${item}\necho \"${CODOMYRMEX_1}\""),
    ("echo '# ${HOME}' a#b ${item}", "echo '# ${HOME}' a#b \"${CODOMYRMEX_1}\""),
    (r'echo \" \${item} ${item}', r'echo \" \${item} "${CODOMYRMEX_1}"'),
    ("""echo "it's ${item}" 'a "b' ${item}""", """echo "it's ${CODOMYRMEX_1}" 'a "b' "${CODOMYRMEX_1}\""""),
    ("""echo "${x:-'}'} ${item}" """, """echo "${x:-'}'} ${CODOMYRMEX_1}" """),
    # the shell's own
    ("echo ${HOME} ${x:-1} ${#a[@]} ${!p} ${x%.*} $HOME $1 $$", None),
    ("echo ${item%.txt} ${index:-1} ${steps[@]} ${run[*]} ${items} ${my_item}", None),
    ("f() { echo '${x}'; }; awk '{print $1}' <<'E'\n${y}\nE", None),
    # literals
    ("echo $${item} '$${item}' \"$${item}\"", "echo ${item} '${item}' \"${item}\""),
]  # fmt: skip


def bash_text(text: str) -> Any:
    template = compile_template(shell_variables(text)[0])
    assert template.constant
    return template.resolve(SampleScope())


@pytest.mark.parametrize(("text", "written"), WRITTEN)
def test_a_text_for_the_shell_becomes(text: str, written: str | None) -> None:
    assert bash_text(text) == (text if written is None else written)


REFUSED = [
    ("echo '${item}'", "inside single quotes", 7),
    ("echo $'a\\'${item}'", "inside single quotes", 11),
    ("cat <<'E'\nx ${item}\nE", "here document whose mark is quoted (E)", 13),
    ("cat <<\\E\nx ${item}\nE", "here document whose mark is quoted (E)", 12),
    ("echo $((${item} + 1))", "in arithmetic", 9),
    ("echo $(((${item}) + 1))", "in arithmetic", 10),
    ("(( ${item} > 1 ))", "in arithmetic", 4),
    ("for ((i=0; i<${item}; i++)); do :; done", "in arithmetic", 14),
    ("echo $[${item}]", "in arithmetic", 8),
    ("[[ ${item} -gt 1 ]]", "a numeric [[ ]]", 4),
    ("[[ 1 -gt 0 && -v ${item} ]]", "a numeric [[ ]]", 18),
    ("a[${item}]=1", "the subscript of an array", 3),
    ('a["${item}"]=1', "the subscript of an array", 4),
    ("echo ${a[${item}]}", "a ${...} of the shell", 10),
    ("echo ${x:0:${item}}", "a ${...} of the shell", 12),
    ('echo "${x:-${item}}"', "a ${...} of the shell", 12),
    ("eval ${item}", "an argument of eval", 6),
    ("true && let x=${item}", "an argument of let", 15),
    ("echo ${item.x", "never closed", 6),
    ("echo ${item.x} ${item.}", "a name must follow the dot", 22),
    ("echo ${steps.a}", "must be followed by .output", 8),
    ("( " * 120 + "${item}", "nests deeper", None),
    ("x" * MAX_TEXT + "${item}", "at most 131,072", None),
]


@pytest.mark.parametrize(("text", "message", "column"), REFUSED)
def test_a_reference_is_refused_where_bash_would_not_see_it_or_would_run_it(
    text: str, message: str, column: int | None
) -> None:
    with pytest.raises(ExpressionError) as caught:
        shell_variables(text)
    assert message in caught.value.message
    if column is not None:
        assert caught.value.column == column


def test_output_is_ours_only_where_something_is_undone() -> None:
    text = "output=$(ls); echo ${output} ${output[0]} ${item}"

    assert shell_variables(text)[1] == {"CODOMYRMEX_1": "${str(item)}"}
    assert shell_variables(text, undoes=True)[1] == {
        "CODOMYRMEX_1": "${str(output)}",
        "CODOMYRMEX_2": "${str(output[0])}",
        "CODOMYRMEX_3": "${str(item)}",
    }
    assert shell_variables("echo ${output.id}")[1] == {"CODOMYRMEX_1": "${str(output.id)}"}


def test_a_fault_in_a_long_text_names_its_line() -> None:
    with pytest.raises(ExpressionError, match=r"line 3 of the text"):
        shell_variables("a\nb\n'${item}'\n")


def test_the_variables_are_templates_of_text() -> None:
    text = "${parameters.x} ${steps.build-wheel.output.a-b} ${secrets.T} ${parameters.x}"
    _, variables = shell_variables(text)
    assert variables == {
        "CODOMYRMEX_1": "${str(parameters.x)}",
        "CODOMYRMEX_2": "${str(steps['build-wheel'].output['a-b'])}",
        "CODOMYRMEX_3": "${secrets.T}",
    }
    assert compile_template(variables).resolve(SampleScope()) == {
        "CODOMYRMEX_1": "1",
        "CODOMYRMEX_2": "7",
        "CODOMYRMEX_3": {"$secret": "T"},
    }


# -- the real thing

BASH = shutil.which("bash")
PLACES = """
show() { printf '%s\\0' "$#" "$@"; }
show ${item}
show "${item}"
show a${item}b
x=${item}; show "$x"
show "$(printf '%s.' ${item})"
show "$(printf '%s.' "${item}")"
show "`printf '%s.' ${item}`"
show "${x:-a"b"}" ${item}
[[ ${item} == ${item} ]] && show same
case ${item} in ${item}) show case;; esac
for each in ${item}; do show "$each"; done
show "$(cat <<EOF
${item}'"
EOF
)"
# ${item} isn't looked at
show last ${item}
"""


def shown(value: str, folder: Path) -> list[str]:
    _, variables = shell_variables(PLACES)
    filled = compile_template(variables).resolve(SampleScope(item=value))
    done = subprocess.run(
        [str(BASH), "-euo", "pipefail", "-c", bash_text(PLACES)],
        env={"PATH": "/usr/bin:/bin", **filled},
        cwd=folder,
        capture_output=True,
        check=True,
    )
    return done.stdout.decode("utf-8", "surrogateescape").split("\0")


def wanted(value: str) -> list[str]:
    once = [value, value, f"a{value}b", value, f"{value}.", f"{value}.", f"{value}."]
    arguments = [[each] for each in once]
    arguments += [[value or "ab", value], ["same"], ["case"], [value], [f"{value}'\""], ["last", value]]
    return [part for each in arguments for part in (str(len(each)), *each)] + [""]


HOSTILE = [
    "plain",
    "two words",
    "*",
    "$(touch pwned)",
    "`touch pwned`",
    "'; touch pwned; '",
    '"; touch pwned; "',
    "a[$(touch pwned)]",
    "${HOME}",
    "$HOME \\ \\n",
    "-n",
    "EOF",
    "a\nEOF\ntouch pwned",
    "~",
    "{a,b}",
    "!!",
    "",
]


@pytest.mark.skipif(BASH is None, reason="no bash on this machine")
@pytest.mark.parametrize("value", HOSTILE)
def test_bash_shows_a_hostile_value_as_it_is_and_runs_nothing(value: str, tmp_path: Path) -> None:
    assert shown(value, tmp_path) == wanted(value)
    assert list(tmp_path.iterdir()) == []


SHELL_CHARACTERS = st.text("'\"`$(){}[]\\;&|<>#*?~!\n -aE=", max_size=16)
ANY_CHARACTERS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


@pytest.mark.skipif(BASH is None, reason="no bash on this machine")
@settings(max_examples=60)
@given(value=(ANY_CHARACTERS | SHELL_CHARACTERS).map(lambda text: f"{text}."))
def test_bash_shows_any_value_as_it_is(value: str) -> None:
    assert shown(value, Path("/")) == wanted(value)


PARTS = st.sampled_from(
    ["${item}", "${HOME}", "'", "`", "$(", ")", "(", "$((", "((", "))", "${x", "}", "[[", "]]", "[", "]",
     "<<E", "\n", "E\n", "$'", "\\", "#", " ", "case ", "esac", "a", "$[", "eval "]
)  # fmt: skip


@given(parts=st.lists(PARTS, max_size=40))
def test_any_text_is_refused_or_rewritten_without_losing_a_character(parts: list[str]) -> None:
    text = "".join(parts)
    try:
        written, variables = bash_text(text), shell_variables(text)[1]
    except ExpressionError:
        return
    restored = written.replace('"${CODOMYRMEX_1}"', "${item}").replace("${CODOMYRMEX_1}", "${item}")
    assert restored == text.replace("$${", "${")
    assert set(variables) <= {"CODOMYRMEX_1"}

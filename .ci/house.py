"""Keeps the house small: sizes of files and folders, and how much is written as bare dicts. Run by `make check`.

Prints one line of figures; exit code 1 with one more line for each limit that is passed.
"""

import ast
import io
import re
import sys
import tokenize
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("scclip", "pipeline", "jobs")
FILE_LINES, FOLDER_MODULES = 400, 14
# 11,478 when the house was put in order; inputs of every kind, the GPU's own path, Python and other tools came after.
CODE_LINES = 17_300
LOOSE_PER_THOUSAND = 4  # dict[str, Any] and Mapping[str, Any] per thousand lines of any kind
ROW_ACCESSES = 40  # row["…"]


def code_lines(text: str) -> int:
    """Lines without blank lines, comments and docstrings."""
    lines: set[int] = set()
    skipped = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in skipped:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        value = getattr(node, "value", None)
        if isinstance(node, ast.Expr) and isinstance(value, ast.Constant) and isinstance(value.value, str):
            lines.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def main() -> int:
    """Prints the figures and what passes a limit."""
    paths = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    texts = {path.relative_to(ROOT): path.read_text(encoding="utf-8") for path in paths}
    code = sum(map(code_lines, texts.values()))
    everything = "\n".join(texts.values())
    loose = len(re.findall(r"(?:dict|Mapping)\[str, Any\]", everything))
    rows = len(re.findall(r"row\[\"", everything))
    problems = [f"{path}: {text.count(chr(10))} lines" for path, text in texts.items() if text.count("\n") > FILE_LINES]
    for folder in sorted({path.parent for path in texts}):
        modules = [path for path in texts if path.parent == folder and path.name != "__init__.py"]
        problems += [f"{folder}: {len(modules)} modules"] if len(modules) > FOLDER_MODULES else []
    density = 1000 * loose / everything.count("\n")
    problems += [f"{code:,} lines of code"] if code > CODE_LINES else []
    problems += [f"{density:.1f} bare dicts per thousand lines"] if density > LOOSE_PER_THOUSAND else []
    problems += [f'{rows} times row["…"]'] if rows > ROW_ACCESSES else []
    print(
        f"{len(texts)} files, {code:,} lines of code, {loose} bare dicts ({density:.1f} per 1,000 lines), {rows} rows"
    )
    for problem in problems:
        print(f"too much: {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

"""Code blocks and commands of the pages of the documentation."""

import re


def blocks(page, language):
    """The fenced blocks of a page in a language."""
    return re.findall(rf"^ *```{language}\n(.*?)^ *```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def commands(page):
    """The commands of a page, in order: of blocks of bash all lines, of plain ones those after a prompt."""
    text = page.read_text("utf-8")
    found = []
    for language, block in re.findall(r"^ *```(\w*)\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL):
        lines = re.sub(r"\\\n\s*", "", block).splitlines()
        if language == "bash":
            found += [re.sub(r"\s+# .*", "", line).strip() for line in lines]
        elif language == "":
            found += [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    return [command for command in found if command and not command.startswith("#")]

"""Code blocks and commands of documentation pages."""

import re


def blocks(page, language):
    """Return the fenced blocks of a page in a language."""
    return re.findall(rf"^ *```{language}\n(.*?)^ *```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def commands(page):
    """Return the commands of a page in order, from bash blocks and after prompts in plain blocks."""
    text = page.read_text("utf-8")
    found = []
    for language, block in re.findall(r"^ *```(\w*)\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL):
        lines = re.sub(r"\\\n\s*", "", block).splitlines()
        if language == "bash":
            found += [re.sub(r"\s+# .*", "", line).strip() for line in lines]
        elif language == "":
            found += [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    return [command for command in found if command and not command.startswith("#")]

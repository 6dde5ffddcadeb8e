"""The table of options in docs/experiment-files.md: `python docs/options_table.py` writes it from their declaration."""

from pathlib import Path

from engine.plan.option import Option
from engine.plan.options import OPTIONS

PAGE = Path(__file__).parent / "experiment-files.md"
BEGIN, END = "<!-- options: python docs/options_table.py -->\n", "<!-- end of options -->\n"
HEADING = "| key | what | takes | default | `extend` |\n| --- | --- | --- | --- | --- |\n"
KINDS = {str: "text", int: "whole number", float: "number", bool: "true, false"}


def table() -> str:
    """The options of an experiment as a table in Markdown."""
    return HEADING + "".join(f"| {' | '.join(_cells(option))} |\n" for option in OPTIONS.values())


def _cells(option: Option) -> list[str]:
    takes = str(option.range) if option.range else ", ".join(option.choices)
    if not takes or option.open:
        takes = KINDS[option.kind]
    return [
        f"`{option.written}`",
        option.help.replace("|", "\\|"),
        f"{takes}; several" if option.several else takes,
        option.default_text,
        "yes" if option.more else "",
    ]


def page() -> str:
    """The page with the table of the present declaration."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    return f"{before}{BEGIN}\n{table()}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(page())

"""The verb `doctor` prints the installed packages, the chosen settings and every problem on this computer."""
from .options import add_format, show

DESCRIPTION = """\
Print the installed versions of Python and of the packages that nphybrid needs. Print the instruction set, the cache
folder, the number of threads and the model that nphybrid uses. Print every problem and its remedy.
"""

EXAMPLES = """\
examples:
  nphybrid doctor
  nphybrid doctor --format json
"""


def add(verb):
    """Add the option of `doctor` to the parser."""
    verb.description, verb.epilog = DESCRIPTION, EXAMPLES
    add_format(verb)


def run(args):
    """Print the report.  The exit code is 1 if a problem was found."""
    from ..machine.doctor import examine, format_text
    report = examine()
    show(args, report, format_text(report))
    return int(bool(report["problems"]))

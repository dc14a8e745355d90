"""What is installed and chosen on this computer, and every problem."""
from .options import add_format, show

DESCRIPTION = """\
Print what is installed on this computer, which instruction set, cache, threads and model were chosen, and every
problem with its remedy.
"""


def add(verb):
    """Only the format."""
    verb.description = DESCRIPTION
    add_format(verb)


def run(args):
    """Print what is installed and chosen on this computer, and every problem with its remedy."""
    from ..machine.doctor import examine, format_text
    report = examine()
    show(args, report, format_text(report))
    return int(bool(report["problems"]))

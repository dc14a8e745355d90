"""What is installed and chosen here, and what is wrong."""
from .options import add_format, show


def add(verbs):
    """Nothing is asked."""
    verb = verbs.add_parser("doctor", help="tell what is installed and chosen here, and what is wrong")
    add_format(verb)
    return verb


def run(args):
    """Print what is installed and chosen here, and every problem with its remedy."""
    from ..machine.doctor import examine, shown
    found = examine()
    show(args, found, shown(found))
    return int(bool(found["problems"]))

"""Parses the command line with argparse.  Misspelt names get a suggestion.  Empty texts and URLs are refused."""
import argparse
import importlib
import os
import shutil
import sys
import textwrap
from typing import NamedTuple

from .. import __version__
from ..text import did_you_mean, is_url, url_refusal

EXIT_CODES = """\
exit codes:
  0    everything succeeded
  1    some inputs failed, a check failed, compare found a difference, or doctor found a problem
  2    the command line is wrong
  3    a model, a file or a value was refused, or memory or disk space is missing
  130  the program was interrupted by Ctrl-C
  143  the program was ended by the signal SIGTERM
"""

EPILOG = "`nphybrid VERB --help` lists the options of a verb, their defaults and examples.\n\n" + EXIT_CODES


def make_parser(verbs: dict[str, str]) -> argparse.ArgumentParser:
    """Return the parser of the complete command line.  `verbs` is {verb: description}."""
    parser = _Parser(prog="nphybrid", description="The Hybrid Vision Transformer in NumPy and Numba.", epilog=EPILOG,
                     formatter_class=_Formatter)
    parser.add_argument("-V", "--version", action="version", version=f"nphybrid {__version__}")
    subparsers = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=VerbParser)
    for name, line in verbs.items():
        subparsers.add_parser(name, help=line, verb=name, formatter_class=_Formatter)
    return parser


# The verbs that other programs have, and the verb of this program that does the work.
OTHER_VERBS = {"predict": "classify", "infer": "classify", "train": "finetune", "extract": "embed", "test": "evaluate"}


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Breaks the lines of help texts only at spaces, so that names such as --save-drawn can be copied."""

    def _split_lines(self, text, width):
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)


class _Parser(argparse.ArgumentParser):
    """A parser that suggests the correct name for a misspelt option, verb or choice."""

    def parse_known_args(self, args=None, namespace=None):
        """Refuse unknown options first.  Otherwise, argparse would only report that another argument is missing.

        Without arguments, and for the verb help, the page of --help is printed.
        """
        args = sys.argv[1:] if args is None else list(args)
        if self._subparsers is not None and (not args or args[0] == "help"):
            args = [*args[1:2], "--help"]
        for arg in args[:args.index("--") if "--" in args else None]:
            if not self._is_own(arg):
                break
            self._refuse_dash(arg)
            self._refuse_unknown_option(arg.partition("=")[0])
        return super().parse_known_args(args, namespace)

    def _is_own(self, arg):
        """Return True if an argument belongs to this parser.  In the main parser, the verb is the first other one."""
        return self._subparsers is None or arg.startswith("-")

    def _print_message(self, message, file=None):
        """Print a text.  Raises OSError if a page of --help cannot be written, which argparse would ignore."""
        from .options import say
        if file is sys.stdout:
            say(message, end="", flush=True)
        else:
            super()._print_message(message, file)

    def error(self, message):
        """Print an error without the usage, which would need many lines, and exit."""
        self.exit(2, f"{self.prog}: error: {message}\nSee {self.prog} --help\n")

    def _refuse_dash(self, arg):
        """Refuse the name of a file that begins like an option that does not exist."""
        is_number = self._negative_number_matcher.match(arg)             # the value of an option
        if arg[:1] == "-" and arg != "-" and not is_number and os.path.lexists(arg) and not any(
                arg == option or arg[:2] == option for action in self._actions for option in action.option_strings):
            self.error(f"found {arg}, which begins like an option; expected ./{arg}, or -- before the names of files")

    def _refuse_unknown_option(self, name):
        if name == "--truth" and self.prog.endswith(" classify"):
            self.error("unrecognized option --truth; nphybrid evaluate has --truth")
        options = [option for action in self._actions for option in action.option_strings if option.startswith("--")]
        # An option may be abbreviated. A text with a space is never an option.
        if name.startswith("--") and " " not in name and not any(option.startswith(name) for option in options):
            self.error(f"unrecognized option {name}{did_you_mean(name, options)}")

    def _check_value(self, action, value):
        """Add a suggestion to the message of argparse about a value that is not one of the choices."""
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            meant = did_you_mean(str(value), map(str, action.choices))
            if OTHER_VERBS.get(value) in action.choices:
                meant = f". Did you mean {OTHER_VERBS[value]}?"
            if not meant and len(action.choices) == 1:
                meant = f". Expected: {self.prog} {next(iter(action.choices))} {value}"
            error.message += meant
            raise


class Argument(NamedTuple):
    """An argument of a verb."""
    names: list                           # for example ["-o", "--output"]; [] for an argument without a name
    help: str                             # the first sentence of the help
    choices: list                         # the possible values, or [] if there is no fixed set of values
    has_value: bool                       # False for a switch such as --quiet


class VerbParser(_Parser):
    """The parser of one verb.  The options of the verb are added when the parser is used for the first time."""

    def __init__(self, verb, **options):
        super().__init__(**options)
        self.verb = verb

    def parse_known_args(self, args=None, namespace=None):
        """Add the options of the verb, then parse the command line with argparse."""
        self.add_options()
        found, rest = super().parse_known_args(args, namespace)
        for action in self._actions:
            values = getattr(found, action.dest, None)
            for value in values if isinstance(values, list) else [values]:
                if isinstance(value, str):
                    self._refuse_empty(action, value)
                    self._refuse_url(action, value)
        return found, rest

    def add_options(self):
        """Add the description, the options and the examples of the verb."""
        module = importlib.import_module(f".{self.verb}", __package__)
        module.add(self)
        self.add_argument("--debug", action="store_true", help="show the traceback of an error")
        self.set_defaults(run=module.run)
        # The formatter wraps neither the description nor the text at the end.
        width = max(shutil.get_terminal_size().columns - 2, 11)
        self.description = "\n\n".join(textwrap.fill(part, width, break_on_hyphens=False)
                                       for part in (self.description or "").split("\n\n"))
        self.epilog = f"{self.epilog}\n{EXIT_CODES}"

    def arguments(self) -> list[Argument]:
        """Return the arguments of the verb, for the completion of command lines."""
        self.add_options()
        return [Argument(list(action.option_strings), (action.help or "").split(". ")[0].split(" (default")[0],
                         list(map(str, action.choices or ())), action.nargs != 0)
                for action in self._actions if action.help != argparse.SUPPRESS]

    def _refuse_empty(self, action, value):
        """Refuse an empty argument, for example from an unset shell variable.  It never means the default value."""
        if value == "":
            self._refuse(action, "found an empty text; expected at least one character")

    def _refuse_url(self, action, value):
        """Refuse a URL, and say how its file is used."""
        if is_url(value):
            self._refuse(action, url_refusal(value))

    def _refuse(self, action, message):
        self.error(str(argparse.ArgumentError(action, message)))

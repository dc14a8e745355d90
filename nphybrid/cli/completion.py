"""The verb `completion` prints a script that completes command lines of nphybrid in a shell."""
DESCRIPTION = """\
Print a script for a shell. With the script, the Tab key completes the verbs, their options, and the values of options
that have a fixed set of values. All other arguments are completed as names of files.
"""

EXAMPLES = """\
examples:
  nphybrid completion bash
  nphybrid completion zsh
  nphybrid completion fish

bash: add this line to ~/.bashrc:  eval "$(nphybrid completion bash)"
zsh:  add this line to ~/.zshrc, after compinit:  eval "$(nphybrid completion zsh)"
fish: run this command one time:  nphybrid completion fish > ~/.config/fish/completions/nphybrid.fish
"""

BASH = """\
_nphybrid() {
  local verb="${COMP_WORDS[1]}" word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}" words=""
  if [ "$COMP_CWORD" -eq 1 ]; then
    words="VERBS"
  else
    case "$verb $before" in
VALUES
    esac
    if [ -z "$words" ]; then
      case "$verb $word" in
OPTIONS
      esac
    fi
  fi
  COMPREPLY=($(compgen -W "$words" -- "$word"))
}
complete -o default -F _nphybrid nphybrid
"""

ZSH = "autoload -U +X bashcompinit && bashcompinit\n"


def add(verb):
    """Add the argument of `completion` to the parser."""
    verb.description, verb.epilog = DESCRIPTION, EXAMPLES
    verb.add_argument("shell", choices=("bash", "zsh", "fish"), metavar="SHELL", help="bash, zsh or fish")


def run(args):
    """Print the script."""
    from . import VERBS
    from .options import say
    from .parsers import VerbParser
    arguments = {verb: VerbParser(verb, prog=f"nphybrid {verb}").arguments() for verb in VERBS}
    if args.shell == "fish":
        say(_fish(VERBS, arguments), end="")
    else:
        say((ZSH if args.shell == "zsh" else "") + _bash(arguments), end="")
    return 0


def _bash(arguments):
    """Return the script for bash.  `arguments` is {verb: list of `parsers.Argument`}."""
    values, options = [], []
    for verb, found in arguments.items():
        for argument in found:
            # A positional argument with choices is the first argument after the verb.
            before = argument.names or [verb]
            if argument.choices:
                patterns = "|".join(f'"{verb} {name}"' for name in before)
                values.append(f'      {patterns}) words="{" ".join(argument.choices)}" ;;')
        names = " ".join(name for argument in found for name in argument.names)
        options.append(f'        "{verb} -"*) words="{names}" ;;')
    script = BASH.replace("VERBS", " ".join(arguments))
    return script.replace("VALUES", "\n".join(values)).replace("OPTIONS", "\n".join(options))


def _fish(verbs, arguments):
    """Return the script for fish.  `verbs` is {verb: description}."""
    lines = [f"complete -c nphybrid -f -n __fish_use_subcommand -a {verb} -d {_quoted(line)}"
             for verb, line in verbs.items()]
    for verb, found in arguments.items():
        for argument in found:
            line = f"complete -c nphybrid -n '__fish_seen_subcommand_from {verb}'"
            for name in argument.names:
                line += f" -l {name[2:]}" if name.startswith("--") else f" -s {name[1:]}"
            if argument.choices:
                line += f" -x -a {_quoted(' '.join(argument.choices))}"
            elif argument.names and argument.has_value:
                line += " -r"
            if argument.names or argument.choices:
                lines.append(f"{line} -d {_quoted(argument.help)}")
    return "\n".join(lines) + "\n"


def _quoted(text):
    """Quote a text for fish."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"

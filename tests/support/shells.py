"""What the completions offer, asked of the shells themselves.

Each shell has offers(LINE): the words it would offer for a line whose end is where the cursor is, as a
set; of what stands behind = in an option, the value alone.
"""

import contextlib
import os
import pathlib
import pty
import subprocess
import tempfile
import threading

import harness

COMPLETIONS = harness.REPOSITORY / "dist" / "completions"


def environment(programs):
    """Of a shell that knows no user, with a folder of programs in front."""
    home = programs.parent / "home"
    home.mkdir(exist_ok=True)
    return harness.clean_environment() | {"HOME": str(home), "TERM": "dumb", "LC_ALL": "C.UTF-8",
                                          "PATH": f"{programs}:{os.environ['PATH']}"}


class Bash:
    """Calls the completion function as readline would, with the words split as it splits them."""

    SCRIPT = r"""
    . /usr/share/bash-completion/bash_completion
    . "$1"/tuplebind.bash
    COMP_LINE=$2 COMP_POINT=${#2} COMP_TYPE=9 COMP_KEY=9
    mapfile -t COMP_WORDS < <(grep -oE '[=:]+|[^=: ]+' <<<"$2")
    [[ $2 != *' ' ]] || COMP_WORDS+=('')
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    read -r _ _ function _ < <(complete -p tuplebind)
    "$function" tuplebind "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
    printf '%s\n' "${COMPREPLY[@]}"
    """

    def __init__(self, programs):
        self.environment = environment(programs)

    def offers(self, line):
        done = subprocess.run(["bash", "-c", self.SCRIPT, "bash", COMPLETIONS, line], timeout=harness.LIMIT,
                              env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
        return set(done.stdout.decode().split())

    def close(self):
        pass


class Fish:
    def __init__(self, programs):
        self.environment = environment(programs)

    def offers(self, line):
        done = subprocess.run(["fish", "-c", f"source {COMPLETIONS}/tuplebind.fish; complete -C '{line}'"],
                              timeout=harness.LIMIT, env=self.environment, capture_output=True, check=True)
        words = [answer.split("\t")[0] for answer in done.stdout.decode().splitlines()]
        last = line.split(" ")[-1]
        prefix = last[:last.index("=") + 1] if "=" in last else ""
        return {word.removeprefix(prefix) for word in words}

    def close(self):
        pass


class Zsh:
    """An interactive zsh on a terminal. What its completion would list is written to a file by the way."""

    SETUP = r"""
    PS1= RPROMPT= LISTMAX=100000
    fpath=(@COMPLETIONS@ $fpath)
    autoload -Uz compinit
    compinit -u -d @WORK@/dump
    compadd() {
      local -a hits
      if [[ ${@[1,(i)(-|--)]} != *-(O|A|D)\ * ]]; then
        builtin compadd -A hits "$@"
        (( $#hits )) && print -rl -- $hits >>@WORK@/offers
      fi
      builtin compadd "$@"
    }
    told() { : >@WORK@/told; BUFFER= }
    zle -N told
    bindkey '^I' list-choices
    bindkey '^G' told
    : >@WORK@/told
    """

    def __init__(self, programs):
        self.work = tempfile.TemporaryDirectory()
        self.folder = pathlib.Path(self.work.name)
        setup = self.folder / "setup"
        setup.write_text(self.SETUP.replace("@COMPLETIONS@", str(COMPLETIONS)).replace("@WORK@", self.work.name))
        terminal, theirs = pty.openpty()
        self.terminal = terminal
        self.process = subprocess.Popen(["zsh", "-f", "-i"], env=environment(programs), stdin=theirs, stdout=theirs,
                                        stderr=theirs, start_new_session=True)
        os.close(theirs)
        self.screen = b""
        threading.Thread(target=self.read, daemon=True).start()
        self.type(f"source {setup}\n")

    def read(self):
        """Or zsh waits when the terminal is full."""
        with contextlib.suppress(OSError):
            while got := os.read(self.terminal, 65536):
                self.screen += got

    def type(self, keys):
        """Types these and waits until zsh has worked them off."""
        told = self.folder / "told"
        os.write(self.terminal, keys.encode())
        try:
            harness.eventually(told.exists)
        except TimeoutError as error:
            raise TimeoutError(self.screen.decode(errors="replace")) from error
        told.unlink()

    def offers(self, line):
        offers = self.folder / "offers"
        offers.write_text("")
        self.type(line + "\t\a")
        return set(offers.read_text().split())

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.terminal)
        self.work.cleanup()


SHELLS = {"bash": Bash, "zsh": Zsh, "fish": Fish}

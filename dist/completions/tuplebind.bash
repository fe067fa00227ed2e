# Completion of tuplebind(1) for bash, with bash-completion.

# The words that may follow an option, or its kind of file.
_tuplebind_value() {
  local list=${cur%"${cur##*,}"} values
  case $1 in
  -c | --config | --log-file | --lease-ca | --output)
    _filedir
    return
    ;;
  --addrs) values="auto $(cd /sys/class/net && echo *)" ;;
  --ports) values=auto ;;
  --protocols) values='tcp udp' ;;
  --protocol) values='tcp udp' list= ;;
  --balance) values='rotate random hash pack' list= ;;
  --full) values='fail kernel' list= ;;
  --unusable) values='kernel fail' list= ;;
  --backend) values='auto late explicit' list= ;;
  --table) values=private list= ;;
  --log) values='off error warn info debug' list= ;;
  --pid)
    _pids
    return
    ;;
  *) return ;; # anything
  esac
  mapfile -t COMPREPLY < <(compgen -P "$list" -W "$values" -- "${cur#"$list"}")
}

# _tuplebind_of_program N : the program is words[N]; the rest is for its own completion. That
# counts the words as readline splits them, at = and : as well.
_tuplebind_of_program() {
  local word piece at=0
  for word in "${words[@]:0:$1}"; do
    piece=
    while [[ $piece != "$word" && $at -lt $COMP_CWORD ]]; do
      piece+=${COMP_WORDS[at]}
      ((at++))
    done
  done
  _command_offset "$at"
}

_tuplebind() {
  local cur prev words cword split options valued i
  _init_completion -s -n : || return

  if [[ $cword -eq 1 ]]; then
    mapfile -t COMPREPLY < <(compgen -W 'config doctor env explain metrics reap reset run status top --help --version' -- "$cur")
    return
  fi
  local with_program=
  [[ ${words[1]} != @(run|doctor) ]] || with_program=1
  valued=' -c --config --addrs --ports --protocols --balance --rules --skip --full --unusable --backend --table --table-size --log --log-file '
  options="$valued --disable --strict"
  case ${words[1]} in
  run)
    options+=' --lease --lease-ttl --lease-wait --lease-ca'
    valued+='--lease --lease-ttl --lease-wait --lease-ca '
    ;;
  env) options+=' --export' ;;
  config)
    options+=' --pid'
    valued+='--pid '
    ;;
  explain)
    options+=' --protocol --json'
    valued+='--protocol '
    ;;
  doctor) options+=' --json' ;;
  status)
    options='--json --details --lanes --ports --all-users'
    valued=' --lanes --ports '
    ;;
  top)
    valued=' --delay --ports '
    options="$valued --all-users"
    ;;
  metrics)
    valued=' --output --lanes --addresses --destinations --ports '
    options="$valued --http --all-users"
    ;;
  reap) options='--all-users' valued='' ;;
  reset) options='--force --all-users' valued='' ;;
  *) return ;;
  esac

  if [[ $with_program ]]; then
    for ((i = 2; i < cword; i++)); do
      if [[ ${words[i]} == -- ]]; then
        _tuplebind_of_program $((i + 1))
        return
      elif [[ ${words[i]} != -* ]]; then
        _tuplebind_of_program "$i"
        return
      elif [[ $valued == *" ${words[i]} "* ]]; then
        ((i++))
      fi
    done
  fi
  if [[ $valued == *" $prev "* ]]; then
    _tuplebind_value "$prev"
  elif [[ $split == true ]]; then
    return
  elif [[ $cur == -* || ! $with_program ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$options --help" -- "$cur")
  else
    _tuplebind_of_program "$cword"
  fi
}

complete -F _tuplebind tuplebind

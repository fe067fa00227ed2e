# Completion of tuplebind(1) for fish.

set -g __tuplebind_valued -c --config --addrs --ports --protocols --balance --rules --skip --full \
    --unusable --backend --table --table-size --log --log-file --lease --lease-ttl --lease-wait --lease-ca

# __tuplebind_at SUBCOMMAND... : true if one of these is typed already, and no program behind it.
function __tuplebind_at
    set -l words (commandline -opc)
    contains -- "$words[2]" $argv; or return 1
    contains -- $words[2] run doctor; or return 0
    set -e words[1..2]
    while set -q words[1]
        string match -q -- '-*' $words[1]; and test $words[1] != --; or return 1
        contains -- $words[1] $__tuplebind_valued; and set -e words[1]
        set -e words[1]
    end
end

# __tuplebind_list WORD... : those words as the next item of a list that commas separate.
function __tuplebind_list
    set -l list (string match -r -- '.*,' (string replace -r -- '^--[a-z]+=' '' (commandline -ct)))
    string join \n -- "$list"$argv
end

function __tuplebind_addresses
    __tuplebind_list auto (path basename /sys/class/net/*)
end

function __tuplebind_option
    complete -c tuplebind -n '__tuplebind_at run env config explain doctor' $argv
end

complete -c tuplebind -f
complete -c tuplebind -n __fish_is_first_arg -l help -s h -d 'What there is'
complete -c tuplebind -n __fish_is_first_arg -l version -s V -d 'The version'
complete -c tuplebind -n __fish_is_first_arg -a config -d 'Which settings are in force'
complete -c tuplebind -n __fish_is_first_arg -a doctor -d 'What limits connections here'
complete -c tuplebind -n __fish_is_first_arg -a env -d 'The variables that run would set'
complete -c tuplebind -n __fish_is_first_arg -a explain -d 'What would become of a connect'
complete -c tuplebind -n __fish_is_first_arg -a metrics -d 'The tables for Prometheus'
complete -c tuplebind -n __fish_is_first_arg -a reap -d 'Give back claims without a socket'
complete -c tuplebind -n __fish_is_first_arg -a reset -d 'Remove tables that no program uses'
complete -c tuplebind -n __fish_is_first_arg -a run -d 'Start a program'
complete -c tuplebind -n __fish_is_first_arg -a status -d 'Show the tables'
complete -c tuplebind -n __fish_is_first_arg -a top -d 'Show the tables live'

complete -c tuplebind -n '__tuplebind_at config doctor env explain metrics reap reset run status top' \
    -l help -s h -d 'What there is'
complete -c tuplebind -n '__fish_seen_subcommand_from run doctor' \
    -xa "(__fish_complete_subcommand --fcs-skip=2 $__tuplebind_valued)"

__tuplebind_option -l config -s c -rF -d 'A configuration file'
__tuplebind_option -l addrs -xa '(__tuplebind_addresses)' -d 'Local addresses'
__tuplebind_option -l ports -xa auto -d 'Local ports'
__tuplebind_option -l protocols -xa '(__tuplebind_list tcp udp)' -d 'Which sockets are served'
__tuplebind_option -l balance -xa 'rotate random hash pack' -d 'How connections are spread'
__tuplebind_option -l rules -x -d 'Addresses and ports for some destinations'
__tuplebind_option -l skip -x -d 'Destinations left to the kernel'
__tuplebind_option -l full -xa 'fail kernel' -d 'When no tuple is left'
__tuplebind_option -l unusable -xa 'kernel fail' -d 'When no address of the pool can be used'
__tuplebind_option -l backend -xa 'auto late explicit' -d 'How a socket is given its port'
__tuplebind_option -l table -xa private -d 'Name of the table'
__tuplebind_option -l table-size -x -d 'Size of the table'
__tuplebind_option -l log -xa 'off error warn info debug' -d 'What is told'
__tuplebind_option -l log-file -rF -d 'A file instead of stderr'
__tuplebind_option -l disable -d 'Do nothing'
__tuplebind_option -l strict -d 'Do not run where tuplebind cannot work'

complete -c tuplebind -n '__tuplebind_at run' -l lease -x -d 'Lease a part of the ports from etcd'
complete -c tuplebind -n '__tuplebind_at run' -l lease-ttl -x -d 'Seconds until a lease runs out'
complete -c tuplebind -n '__tuplebind_at run' -l lease-wait -x -d 'Seconds to wait for a free part'
complete -c tuplebind -n '__tuplebind_at run' -l lease-ca -rF -d 'Trust these certificates'
complete -c tuplebind -n '__tuplebind_at env' -l export -d 'Lines for a shell'
complete -c tuplebind -n '__tuplebind_at config' -l pid -xa '(__fish_complete_pids)' -d 'A running process'
complete -c tuplebind -n '__tuplebind_at explain' -l protocol -xa 'tcp udp' -d 'Of the connect'
complete -c tuplebind -n '__tuplebind_at explain doctor status' -l json -d 'One JSON object'
complete -c tuplebind -n '__tuplebind_at status top metrics reap reset' -l all-users -d 'Those of other users as well'
complete -c tuplebind -n '__tuplebind_at status' -l details -d 'All that is known'
complete -c tuplebind -n '__tuplebind_at status' -l lanes -x -d 'How many of each to show'
complete -c tuplebind -n '__tuplebind_at status top metrics' -l ports -xa auto -d 'Ports that a lane can have'
complete -c tuplebind -n '__tuplebind_at top' -l delay -x -d 'Seconds between two looks'
complete -c tuplebind -n '__tuplebind_at metrics' -l output -rF -d 'A file to replace'
complete -c tuplebind -n '__tuplebind_at metrics' -l http -d 'Answer one request on stdin and stdout'
complete -c tuplebind -n '__tuplebind_at metrics' -l lanes -x -d 'How many lanes'
complete -c tuplebind -n '__tuplebind_at metrics' -l addresses -x -d 'How many local addresses'
complete -c tuplebind -n '__tuplebind_at metrics' -l destinations -x -d 'How many destinations'
complete -c tuplebind -n '__tuplebind_at reset' -l force -d 'Also with programs attached'

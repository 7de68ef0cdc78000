# fish completion for cvx. Made by `cvx completion show fish`; do not edit.
function __cvx_words
    set -l words (commandline -opc) (commandline -ct)
    $words[1] completion words -- $words[2..-1] 2>/dev/null
end
complete -c cvx -f -a '(__cvx_words)'

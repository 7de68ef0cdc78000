# bash completion for cvx. Made by `cvx completion show bash`; do not edit.
_cvx() {
  local line="${COMP_LINE:0:COMP_POINT}" value rest drop="" current
  local -a words
  read -ra words <<<"$line"
  case "$line" in *[[:space:]]) words+=("") ;; esac
  current="${words[${#words[@]}-1]}"
  # bash takes a colon or an equals sign for a word's end, if it is among the breaks: then it wants only what follows.
  case "$COMP_WORDBREAKS" in *:*) case "$current" in *:*) drop="${current%"${current##*:}"}" ;; esac ;; esac
  case "$COMP_WORDBREAKS" in *=*) case "$current" in --*=*) drop="${current%%=*}=" ;; esac ;; esac
  COMPREPLY=()
  while IFS=$'\t' read -r value rest; do
    case "$value" in */) compopt -o nospace 2>/dev/null ;; esac
    COMPREPLY+=("${value#"$drop"}")
  done < <("${words[0]}" completion words -- "${words[@]:1}" 2>/dev/null)
}
complete -F _cvx cvx

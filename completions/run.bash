# bash completion for run
_run() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    case $previous in
    -m | --mode) mapfile -t COMPREPLY < <(compgen -W "generate chat" -- "$current"); return ;;
    -b | --batch) mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
    --convert) mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
    --type) COMPREPLY=(); return ;;
    --head-type) COMPREPLY=(); return ;;
    --calibrate) mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
    --set) COMPREPLY=(); return ;;
    -i | --prompt) COMPREPLY=(); return ;;
    -f | --prompt-file) mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
    -n | --max-tokens) COMPREPLY=(); return ;;
    -t | --temperature) COMPREPLY=(); return ;;
    -p | --top-p) COMPREPLY=(); return ;;
    -k | --top-k) COMPREPLY=(); return ;;
    --min-p) COMPREPLY=(); return ;;
    --repeat-penalty) COMPREPLY=(); return ;;
    --repeat-last-n) COMPREPLY=(); return ;;
    --presence-penalty) COMPREPLY=(); return ;;
    --frequency-penalty) COMPREPLY=(); return ;;
    --logit-bias) COMPREPLY=(); return ;;
    -s | --seed) COMPREPLY=(); return ;;
    --stop) COMPREPLY=(); return ;;
    --stop-token-id) COMPREPLY=(); return ;;
    --min-tokens) COMPREPLY=(); return ;;
    --choice) COMPREPLY=(); return ;;
    --regex) COMPREPLY=(); return ;;
    --json-schema) COMPREPLY=(); return ;;
    -y | --system) COMPREPLY=(); return ;;
    --think) mapfile -t COMPREPLY < <(compgen -W "on off" -- "$current"); return ;;
    --date) COMPREPLY=(); return ;;
    --template-var) COMPREPLY=(); return ;;
    -z | --tokenizer) mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
    -c | --context) COMPREPLY=(); return ;;
    --kv) mapfile -t COMPREPLY < <(compgen -W "f16 f32" -- "$current"); return ;;
    --chunk) COMPREPLY=(); return ;;
    --lookup) COMPREPLY=(); return ;;
    -j | --threads) COMPREPLY=(); return ;;
    --simd) mapfile -t COMPREPLY < <(compgen -W "auto avx512 avxvnni avx2 i8mm dotprod neon scalar" -- "$current"); return ;;
    --parallel) COMPREPLY=(); return ;;
    --first-line) COMPREPLY=(); return ;;
    --prompt-cache) mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
    -o | --output) mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
    --logprobs) COMPREPLY=(); return ;;
    esac
    case $current in
    -*) mapfile -t COMPREPLY < <(compgen -W "--chat -m --mode -b --batch --tokenize --score --bench --info --tensors --convert --type --head-type --calibrate --set --verify -h --help --version -i --prompt -f --prompt-file --truncate-prompt -n --max-tokens -t --temperature -p --top-p -k --top-k --min-p --repeat-penalty --repeat-last-n --presence-penalty --frequency-penalty --logit-bias -s --seed --stop --stop-token-id --min-tokens --ignore-eos --choice --regex --json-schema --json-object --special --no-echo -y --system --think --date --template-var -z --tokenizer -c --context --kv --chunk --lookup -j --threads --simd --parallel --lines --resume --retry --first-line --prompt-cache -o --output --json --logprobs --stats -q --quiet --digest" -- "$current") ;;
    *) mapfile -t COMPREPLY < <(compgen -f -- "$current") ;;
    esac
}
complete -o filenames -F _run run

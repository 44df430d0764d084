//! Commands of other programs: what to write instead. The suggestions of clap go by spelling, and `stop` is no typo of `top`.

use crate::base::program;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Words that people try first, and what each of them is here. `{}` is the name of this program.
const WORDS: &[(&[&str], &str)] = &[
    (
        &["start", "serve", "up", "daemon", "-d", "-D", "--daemon"],
        "`{} run` runs the balancer in this terminal; systemd or a container runs it in the background",
    ),
    (
        &["stop", "quit", "shutdown", "down", "kill"],
        "to stop the balancer, press ctrl-C in its terminal, or send SIGTERM to its process: `{} status` shows the pid",
    ),
    (
        &["restart"],
        "`{} upgrade` starts the program again without losing a connection, `{} reload` applies a changed configuration",
    ),
    (
        &["-s", "--signal"],
        "`{} reload` and `{} upgrade` are commands; to stop the balancer, send SIGTERM to its process: `{} status` shows the pid",
    ),
    (
        &["--user", "--group", "-u"],
        "the balancer keeps the user that starts it; systemd's User= or setpriv choose one, and ports below 1024 need the capability \
         CAP_NET_BIND_SERVICE",
    ),
    (&["log", "logs"], "the balancer logs to its standard error; under systemd: journalctl -u evenkeel"),
    (
        &["list", "ls", "ps", "servers", "stats", "info", "metrics"],
        "`{} status` shows the servers and totals",
    ),
    (
        &["add", "remove", "drain", "undrain", "maint", "ready", "enable", "disable", "weight"],
        "`{} top` drains servers; programs use the admin API, as in: curl -X PATCH \
         http://127.0.0.1:9301/api/v1/servers/NAME -H 'Content-Type: application/json' -d '{\"state\": \"drain\"}'",
    ),
    (&["configtest", "lint", "verify"], "`{} check` checks the configuration"),
    (
        &["init", "new", "create"],
        "`{} run --listen :8080 --to HOST:PORT --print-config` prints a configuration to begin with",
    ),
    (
        &["--listen", "--to", "--port", "-p", "--tls-cert", "--tls-key"],
        "`{} run --listen :8080 --to HOST:PORT` runs a balancer without a file; other commands find it in the configuration (-c)",
    ),
    (&["bench", "benchmark", "load"], "`{} loadtest` sends many requests and measures the responses"),
    // Below `config`.
    (
        &["show", "dump", "print", "view", "get", "-T"],
        "`{} check --print` prints the effective configuration, defaults included; `{} status --changes` what the admin API changed",
    ),
    (&["-X", "--request"], "`{} loadtest -m POST URL` chooses the method"),
    (&["--dry-run", "--diff", "--check"], "`{} check --diff` shows what a reload would change"),
];

/// The message for a command line that another program would have understood.
pub(super) fn message(error: &clap::Error) -> Option<String> {
    let kind = match error.kind() {
        ErrorKind::InvalidSubcommand => ContextKind::InvalidSubcommand,
        ErrorKind::UnknownArgument => ContextKind::InvalidArg,
        _ => return None,
    };
    let Some(ContextValue::String(word)) = error.get(kind) else { return None };
    let (_, advice) = WORDS.iter().find(|(words, _)| words.contains(&word.as_str()))?;
    let what = if word.starts_with('-') { "option" } else { "command" };
    Some(format!("there is no {what} {word}: {}", advice.replace("{}", &program::name())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Arguments;
    use clap::{CommandFactory, Parser};
    use std::collections::BTreeSet;

    #[test]
    fn each_word_is_listed_once_and_is_no_command() {
        let mut all = BTreeSet::new();
        let command = Arguments::command();
        for word in WORDS.iter().flat_map(|(words, _)| *words) {
            assert!(all.insert(word), "{word} is listed twice");
            assert!(command.find_subcommand(word).is_none(), "{word} is a command");
        }
    }

    #[test]
    fn what_other_programs_call_it_is_named() {
        let check = |line: &str, expected: &str| {
            let arguments = line.split(' ');
            let error = Arguments::try_parse_from(["evenkeel"].into_iter().chain(arguments)).unwrap_err();
            let message = message(&error).unwrap_or_default();
            assert!(message.contains(expected), "{line}: {message}");
        };
        check("stop", "there is no command stop: to stop the balancer, press ctrl-C");
        check("start -c a.json", " run` runs the balancer");
        check("restart", " upgrade` starts");
        check("drain a", "-d '{\"state\": \"drain\"}'");
        check("config show", " check --print`");
        check("state show", " status --changes` what");
        check("reload --dry-run", " check --diff` shows");
        check("-s reload", "there is no option -s: ");
        check("run --user nobody", "there is no option --user: ");
        check("-T", "there is no option -T: ");
        check("--listen :80 --to a:1", " run --listen :8080 --to HOST:PORT` runs");
        check("nothing", "");
        check("--nothing", "");
    }
}

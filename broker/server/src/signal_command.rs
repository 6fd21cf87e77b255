//! `-sl`: sends a signal to a running server.

use std::{fs, path::Path};

use rustix::process::{Pid, Signal, kill_process};
use weir_conf::{SignalCommand, SignalRequest};

/// Signals the processes that the request names, or the only running server of this name. A target
/// that ends with `*` names all servers whose process id begins so.
pub(crate) fn send(request: &SignalRequest, program: &str) -> Result<(), String> {
    let text = fs::read_to_string(&request.target).unwrap_or_else(|_| request.target.clone());
    let (prefix, is_pattern) = match text.strip_suffix('*') {
        Some(prefix) => (prefix, true),
        None => (text.as_str(), false),
    };
    let mut pids = Vec::new();
    if !prefix.is_empty() {
        pids.push(process_of(prefix)?);
    }
    if prefix.is_empty() || is_pattern {
        pids = running(program)?;
        pids.retain(|pid| pid.as_raw_nonzero().to_string().starts_with(prefix) || !is_pattern);
    }
    if pids.len() > 1 && !is_pattern {
        let list: Vec<String> = pids.iter().map(|pid| pid.as_raw_nonzero().to_string()).collect();
        return Err(format!("multiple {program} processes running:\n{}", list.join("\n")));
    }
    if pids.is_empty() && prefix.is_empty() {
        return Err(format!("no {program} processes running"));
    }
    let word = &request.word;
    let command = SignalCommand::parse(word).ok_or_else(|| format!("unknown signal {word:?}"))?;
    let failed: String = pids
        .into_iter()
        .filter_map(|pid| {
            let error = kill_process(pid, signal_of(command)).err()?;
            Some(format!("\nsignal {word:?} {}: {}", pid.as_raw_nonzero(), reason(error)))
        })
        .collect();
    if failed.is_empty() { Ok(()) } else { Err(failed) }
}

fn signal_of(command: SignalCommand) -> Signal {
    match command {
        SignalCommand::Stop => Signal::KILL,
        SignalCommand::Quit => Signal::INT,
        SignalCommand::Terminate => Signal::TERM,
        SignalCommand::Reopen => Signal::USR1,
        SignalCommand::Reload => Signal::HUP,
        SignalCommand::LameDuck => Signal::USR2,
    }
}

fn reason(error: rustix::io::Errno) -> String {
    match error {
        rustix::io::Errno::SRCH => "no such process".to_owned(),
        rustix::io::Errno::PERM => "operation not permitted".to_owned(),
        other => other.to_string(),
    }
}

/// A process id. One of zero or below would be a group of processes: no server is one.
fn process_of(text: &str) -> Result<Pid, String> {
    let number = text.parse::<i32>().ok().filter(|number| *number > 0);
    number.and_then(Pid::from_raw).ok_or_else(|| format!("invalid pid: {text}"))
}

/// The other processes whose executable has this name.
fn running(program: &str) -> Result<Vec<Pid>, String> {
    let own = std::process::id().to_string();
    let unresolved = |_| "unable to resolve pid, try providing one".to_owned();
    let entries = fs::read_dir("/proc").map_err(unresolved)?.flatten();
    let mut found: Vec<i32> = entries
        .filter(|entry| command_of(&entry.path()).as_deref() == Some(program))
        .filter_map(|entry| entry.file_name().to_str().filter(|name| *name != own)?.parse().ok())
        .collect();
    found.sort_unstable();
    Ok(found.into_iter().filter_map(Pid::from_raw).collect())
}

fn command_of(process: &Path) -> Option<String> {
    let line = fs::read(process.join("cmdline")).ok()?;
    let first = line.split(|byte| *byte == 0).next()?;
    let program = Path::new(std::str::from_utf8(first).ok()?);
    program.file_name().map(|name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(word: &str, target: &str) -> Result<(), String> {
        let request = SignalRequest { word: word.to_owned(), target: target.to_owned() };
        send(&request, "no-such-program-of-anybody")
    }

    #[test]
    fn a_target_is_a_number_or_a_file_with_one() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), "0").expect("written");
        let named = file.path().to_string_lossy().into_owned();
        assert_eq!(asked("stop", &named), Err("invalid pid: 0".to_owned()));
        assert_eq!(asked("stop", "/nonexistent"), Err("invalid pid: /nonexistent".to_owned()));
        assert_eq!(asked("stop", "-1"), Err("invalid pid: -1".to_owned()));
        assert_eq!(process_of("5").map(|pid| pid.as_raw_nonzero().get()), Ok(5));
    }

    #[test]
    fn what_is_wrong_is_told_in_the_words_of_nats_server() {
        let none = "no no-such-program-of-anybody processes running";
        assert_eq!(asked("stop", ""), Err(none.to_owned()));
        assert_eq!(asked("dance", "2147483646"), Err("unknown signal \"dance\"".to_owned()));
        let gone = "\nsignal \"stop\" 2147483646: no such process";
        assert_eq!(asked("stop", "2147483646"), Err(gone.to_owned()));
        assert_eq!(asked("stop", "21474*"), Ok(()));
    }
}

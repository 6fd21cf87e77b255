//! `-sl`: sends a signal to a running server.

use std::{fs, path::Path};

use rustix::process::{Pid, Signal, kill_process};
use weir_conf::{SignalCommand, SignalRequest};

/// Signals the process that the request names, or the only running server of this name.
pub(crate) fn send(request: &SignalRequest, program: &str) -> Result<(), String> {
    let pid = match request.target.as_str() {
        "" => the_only_process(program)?,
        target => process_of(target)?,
    };
    let word = &request.word;
    let command = SignalCommand::parse(word).ok_or_else(|| format!("unknown signal {word:?}"))?;
    let signal = match command {
        SignalCommand::Stop => Signal::KILL,
        SignalCommand::Quit => Signal::INT,
        SignalCommand::Terminate => Signal::TERM,
        SignalCommand::Reopen => Signal::USR1,
        SignalCommand::Reload => Signal::HUP,
        SignalCommand::LameDuck => Signal::USR2,
    };
    kill_process(pid, signal).map_err(|error| {
        let reason = match error {
            rustix::io::Errno::SRCH => "no such process".to_owned(),
            other => other.to_string(),
        };
        format!("\nsignal {word:?} {}: {reason}", pid.as_raw_nonzero())
    })
}

/// A process id, or the path of a file with one.
fn process_of(target: &str) -> Result<Pid, String> {
    let invalid = || format!("invalid pid: {target}");
    let number = match target.parse::<i32>() {
        Ok(number) => number,
        Err(_) => {
            let text = fs::read_to_string(target).map_err(|_| invalid())?;
            text.trim().parse().map_err(|_| invalid())?
        }
    };
    Some(number).filter(|number| *number > 0).and_then(Pid::from_raw).ok_or_else(invalid)
}

/// The one other process whose executable has this name.
fn the_only_process(program: &str) -> Result<Pid, String> {
    let own = std::process::id();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").map_err(|error| error.to_string())?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if pid != own && command_of(&entry.path()).as_deref() == Some(program) {
            found.push(pid);
        }
    }
    match found.as_slice() {
        [] => Err(format!("no {program} processes running")),
        [pid] => process_of(&pid.to_string()),
        many => {
            let list: Vec<String> = many.iter().map(u32::to_string).collect();
            Err(format!("multiple {program} processes running:\n{}", list.join("\n")))
        }
    }
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

    #[test]
    fn a_target_is_a_number_or_a_file_with_one() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), "77").expect("written");
        let named = file.path().to_string_lossy().into_owned();
        assert_eq!(process_of(&named).map(|pid| pid.as_raw_nonzero().get()), Ok(77));
        assert_eq!(process_of("5").map(|pid| pid.as_raw_nonzero().get()), Ok(5));
        assert_eq!(process_of("/nonexistent"), Err("invalid pid: /nonexistent".to_owned()));
        assert!(process_of("-1").is_err() && process_of("0").is_err());
    }
}

//! `weir store check|repair DIR`: words in, a report and an exit code out. What is checked and repaired is the
//! business of `weir_jetstream_node::offline`.

use std::{
    fmt::Display,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use serde::Serialize;
use weir_conf::{Invocation, Options, SystemSources};
use weir_jetstream_node::offline::{self, RepairMode};
use weir_storage::{
    EncryptionOptions, FileStoreOptions,
    disk::{Disk, RealDisk},
};

use crate::jetstream::encryption;

const SOUND: u8 = 0;
const DAMAGED: u8 = 1;
const NOT_CHECKED: u8 = 2;

/// The help of `weir store`.
const USAGE: &str = "
Usage: weir store check  [options] <dir>    Read everything in a stopped server's store and say what is wrong
       weir store repair [options] <dir>    Make anew what can be, set aside what is damaged, and name what is lost

<dir> is the store_dir of a server, or the folder `jetstream` in it.

Options:
    -c, --config <file>   Configuration file of the server: the key of its store, and store_dir without <dir>,
                              its keys where the store is encrypted
        --json            Print the report as JSON
        --dry-run         repair: say what would be done, change nothing
        --yes             repair: do it

Exit codes: 0 sound (or repaired), 1 damaged (or not wholly repaired), 2 could not be checked
";

/// What the words ask for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Request {
    is_repair: bool,
    directory: Option<PathBuf>,
    config: Option<String>,
    json: bool,
    dry_run: bool,
    yes: bool,
}

/// Obeys the words behind `store`.
pub(crate) fn run(words: &[String]) -> ExitCode {
    let request = match parse(words) {
        Ok(Some(request)) => request,
        Ok(None) => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(reason) => {
            eprint!("weir store: {reason}\n{USAGE}");
            return ExitCode::from(NOT_CHECKED);
        }
    };
    match obey(&request) {
        Ok(code) => ExitCode::from(code),
        Err(reason) => {
            eprintln!("weir store: {reason}");
            ExitCode::from(NOT_CHECKED)
        }
    }
}

/// Nothing where help is asked for.
fn parse(words: &[String]) -> Result<Option<Request>, String> {
    let mut request = Request::default();
    let mut words = words.iter();
    match words.next().map(String::as_str) {
        Some("check") => {}
        Some("repair") => request.is_repair = true,
        None | Some("help" | "-h" | "--help" | "-help") => return Ok(None),
        Some(other) => return Err(format!("{other:?} is neither \"check\" nor \"repair\"")),
    }
    while let Some(word) = words.next() {
        match word.as_str() {
            "-h" | "--help" | "-help" => return Ok(None),
            "--json" => request.json = true,
            "--dry-run" if request.is_repair => request.dry_run = true,
            "--yes" if request.is_repair => request.yes = true,
            "-c" | "--config" => {
                request.config = Some(words.next().ok_or("-c needs a file")?.clone());
            }
            flag if flag.starts_with('-') => return Err(format!("there is no option {flag}")),
            _ if request.directory.is_some() => {
                return Err(format!("one folder at a time: {word:?} is too much"));
            }
            directory => request.directory = Some(directory.into()),
        }
    }
    if request.directory.is_none() && request.config.is_none() {
        return Err("which folder?".to_owned());
    }
    if request.is_repair && request.dry_run == request.yes {
        return Err("repair changes the store: say --yes, or --dry-run to see what it would do".to_owned());
    }
    Ok(Some(request))
}

fn obey(request: &Request) -> Result<u8, String> {
    let options = request.config.as_deref().map(configured).transpose()?;
    let jetstream = options.and_then(|options| options.jetstream);
    let encryption = jetstream.as_ref().and_then(encryption);
    let configured = jetstream.and_then(|jetstream| jetstream.store_dir);
    let directory = request.directory.clone().or(configured).ok_or("the configuration names no store_dir")?;
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let (store, encryption) = (FileStoreOptions::default(), encryption.as_ref());
    if request.is_repair {
        return repair(request, &disk, &directory, &store, encryption);
    }
    let report = offline::check(&disk, &directory, &store, encryption).map_err(|error| error.to_string())?;
    show(request, &report)?;
    Ok(match (report.is_refused(), report.is_damaged()) {
        (_, true) => DAMAGED,
        (true, false) => NOT_CHECKED,
        (false, false) => SOUND,
    })
}

fn repair(
    request: &Request,
    disk: &Arc<dyn Disk>,
    directory: &Path,
    store: &FileStoreOptions,
    encryption: Option<&EncryptionOptions>,
) -> Result<u8, String> {
    let mode = if request.yes { RepairMode::Change } else { RepairMode::Try };
    let report =
        offline::repair(disk, directory, store, encryption, mode).map_err(|error| error.to_string())?;
    show(request, &report)?;
    Ok(if report.is_sound() { SOUND } else { DAMAGED })
}

fn show(request: &Request, report: &(impl Serialize + Display)) -> Result<(), String> {
    if request.json {
        println!("{}", serde_json::to_string_pretty(report).map_err(|error| error.to_string())?);
    } else {
        print!("{report}");
    }
    Ok(())
}

fn configured(file: &str) -> Result<Options, String> {
    match Invocation::from_args(&["-c".to_owned(), file.to_owned()], &SystemSources) {
        Ok(Invocation::Run(request)) => Ok(request.options),
        Ok(_) => Err(format!("{file} is no configuration of a server")),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Option<Request>, String> {
        parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn a_repair_must_be_asked_for() {
        assert!(parsed("repair /d").unwrap_err().contains("--yes"));
        assert!(parsed("repair /d --yes --dry-run").is_err());
        assert!(parsed("check /d --yes").unwrap_err().contains("--yes"));
        let request = parsed("repair --yes --json /d").unwrap().unwrap();
        assert!(request.is_repair && request.yes && request.json && request.directory == Some("/d".into()));
    }

    #[test]
    fn words_that_mean_nothing_are_refused() {
        for words in ["chek /d", "check", "check /a /b", "check -x /d", "check /d -c"] {
            assert!(parsed(words).is_err(), "{words}");
        }
        for words in ["", "help", "check --help"] {
            assert_eq!(parsed(words), Ok(None), "{words}");
        }
    }
}

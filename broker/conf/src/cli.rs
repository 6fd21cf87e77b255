//! The command line: Go's flag syntax with nats-server's flags. A flag beats the file.

mod flags;
mod overrides;

use std::{fmt, path::Path};

pub use flags::Flags;

use crate::{
    error::{ConfError, ConfErrors},
    interpret,
    options::Options,
    parse,
    sources::Sources,
    validate,
};

/// Under which name the program was started: it decides how it presents itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persona {
    Weir,
    /// Started as `nats-server`: version, messages and exit codes are that program's.
    NatsServer,
}

impl Persona {
    /// From `argv[0]`.
    pub fn from_program(program: &str) -> Self {
        let name = Path::new(program).file_name().map(|name| name.to_string_lossy().into_owned());
        match name.as_deref() {
            Some("nats-server" | "nats-server.exe") => Self::NatsServer,
            _ => Self::Weir,
        }
    }

    /// The name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Weir => "weir",
            Self::NatsServer => "nats-server",
        }
    }
}

/// What the command line asks for.
#[derive(Debug, Clone)]
pub enum Invocation {
    Help,
    HelpTls,
    Version,
    /// `-sl`: signal another process.
    Signal(SignalRequest),
    /// `-t`: the file is valid; its name and digest, and what it says.
    ConfigIsValid {
        file: String,
        digest: String,
        options: Box<Options>,
    },
    /// Run a server.
    Run(Box<RunRequest>),
}

/// A server to run: its options, and what is needed to compute them again at a reload.
#[derive(Debug, Clone)]
pub struct RunRequest {
    pub options: Options,
    pub flags: Flags,
}

/// `-sl command[=target]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignalRequest {
    /// What [`SignalCommand::parse`] reads: checked last, as in nats-server.
    pub word: String,
    /// A process id or the path of a pid file; empty looks for the one running server.
    pub target: String,
}

/// What a signal makes a server do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalCommand {
    /// End at once (KILL).
    Stop,
    /// End as by ctrl-C (INT).
    Quit,
    /// End (TERM).
    Terminate,
    /// Reopen the log file (USR1).
    Reopen,
    /// Read the configuration again (HUP).
    Reload,
    /// Enter lame duck mode (USR2).
    LameDuck,
}

impl SignalCommand {
    /// The command a word stands for.
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "stop" => Self::Stop,
            "quit" => Self::Quit,
            "term" => Self::Terminate,
            "reopen" => Self::Reopen,
            "reload" => Self::Reload,
            "ldm" => Self::LameDuck,
            _ => return None,
        })
    }
}

/// Why the command line leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UsageError {
    /// A flag is unknown or malformed: shown with the usage. nats-server exits with 0 here.
    Flag(String),
    /// A word that is not a flag, or flags that do not go together.
    Command(String),
    /// The configuration cannot be used.
    Config(ConfErrors),
}

impl UsageError {
    /// The problem with file, line and column where there is one, on one line.
    pub fn located(&self) -> String {
        match self {
            Self::Flag(message) | Self::Command(message) => message.clone(),
            Self::Config(errors) => errors.located(),
        }
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(message) | Self::Command(message) => f.write_str(message),
            Self::Config(errors) => errors.fmt(f),
        }
    }
}

impl std::error::Error for UsageError {}

impl From<ConfErrors> for UsageError {
    fn from(errors: ConfErrors) -> Self {
        Self::Config(errors)
    }
}

impl Invocation {
    /// Reads the arguments (without the program's name) and the file they name.
    pub fn from_args(arguments: &[String], sources: &dyn Sources) -> Result<Self, UsageError> {
        let (flags, words) = Flags::parse(arguments).map_err(UsageError::Flag)?;
        if flags.is_set("v") {
            return Ok(Self::Version);
        }
        if flags.is_set("h") {
            return Ok(Self::Help);
        }
        if flags.is_set("help_tls") {
            return Ok(Self::HelpTls);
        }
        if let Some(word) = words.first() {
            return match word.to_lowercase().as_str() {
                "help" => Ok(Self::Help),
                "version" => Ok(Self::Version),
                _ => Err(UsageError::Command(format!("unrecognized command: {word:?}"))),
            };
        }
        if let Some(text) = flags.text("sl").filter(|text| !text.is_empty()) {
            return signal(text).map(Self::Signal);
        }
        if flags.is_set("t") {
            return check(&flags, sources);
        }
        let options = flags.options(sources)?;
        Ok(Self::Run(Box::new(RunRequest { options, flags })))
    }
}

fn signal(text: &str) -> Result<SignalRequest, UsageError> {
    let parts: Vec<&str> = text.split('=').collect();
    let (word, target) = match parts.as_slice() {
        [word] => (*word, ""),
        [word, target] => (*word, *target),
        [_, _, rest @ ..] => {
            let message = format!("invalid signal parameters: [{}]", rest.join(" "));
            return Err(UsageError::Command(message));
        }
        [] => ("", ""),
    };
    Ok(SignalRequest { word: word.to_owned(), target: target.to_owned() })
}

fn check(flags: &Flags, sources: &dyn Sources) -> Result<Invocation, UsageError> {
    let Some(file) = flags.text("c").filter(|file| !file.is_empty()) else {
        let message = "must specify [-c, --config] option to check configuration file syntax";
        return Err(UsageError::Command(message.to_owned()));
    };
    let document = parse::parse_file_from(Path::new(file), sources)?;
    let mut options = Options::default();
    interpret::apply(&document, &mut options, sources)?;
    if !options.warnings.is_empty() {
        return Err(ConfErrors { errors: options.warnings, list: true }.into());
    }
    Ok(Invocation::ConfigIsValid {
        file: file.to_owned(),
        digest: document.digest,
        options: Box::new(options),
    })
}

impl Flags {
    /// The options that these flags and their file give, checked as a whole.
    pub fn options(&self, sources: &dyn Sources) -> Result<Options, UsageError> {
        let mut options = Options::default();
        if let Some(file) = self.text("c").filter(|file| !file.is_empty()) {
            let document = parse::parse_file_from(Path::new(file), sources)?;
            interpret::apply(&document, &mut options, sources)?;
        }
        overrides::apply(self, &mut options, sources).map_err(UsageError::Command)?;
        match validate::problem(&options) {
            None => Ok(options),
            Some(message) => {
                let file = self.text("c").unwrap_or_default().into();
                let error = ConfError::bare(&file, 0, 0, message);
                Err(UsageError::Config(error.into()))
            }
        }
    }
}

#[cfg(test)]
mod tests;
